// Package profiles keeps user profiles: which variation a user got in which
// experiment, so that bucketing is sticky. Its services are
// [decision.ProfileService]s, for the client and for anything else that decides:
//
//   - [NewMemory] keeps the profiles used last, in this process;
//   - [NewRedis] keeps them in Redis, shared by many processes;
//   - [NewHTTP] asks a service over HTTP, as Optimizely Agent's REST service does.
//
// The first two also look up and save many profiles at a time, for the micro-batches
// of a stream ([Memory.LookupMany], [Redis.LookupMany]).
//
// A decision asks for one profile and saves at most one, however many flags it
// decides. Two decisions for one user at the same time may both save, and the later
// one counts, as in the SDKs: what the earlier one added can be lost and is then
// made again, the same, unless the traffic was changed in between.
//
// Errors never fail a decision: it goes on as if there were no profile. They name
// no user. Source: decide.md section 7.
package profiles
