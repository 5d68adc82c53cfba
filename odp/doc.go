// Package odp speaks with the Optimizely Data Platform: it finds out which audience
// segments a user qualifies for, and sends ODP events.
//
// # Segments
//
// A [Segments] holds the integration of the datafile in force ([Segments.Update])
// and answers [Segments.Fetch] for one user, [Segments.FetchMany] for the users of a
// micro-batch. An answer takes the shortest way there is:
//
//	nothing to check in the datafile   → none, without a request
//	in the cache and young enough      → from there, without an allocation
//	somebody is asking for this user   → their answer (one flight per user)
//	the breaker is open                → ErrCircuitOpen, or an old answer if allowed
//	else                               → one request, one of at most MaxInFlight
//
// A failure is an [*Error] with a [Class]; it is never taken for "no segments".
// What a stream then does is a [Policy]; [Segments.Resolve] carries it out.
//
// The cache is in memory ([LRU]), in Redis ([Redis]), or of one's own ([Cache]).
// It belongs to one Segments and thereby to one project: the SDKs' keys don't name
// the project, so a cache of one's own must not be shared between projects.
//
// # Events
//
// An [Events] checks an event, completes it with the data all events carry, and
// sends it in batches of ten; or hands it to a [Queue] on disk first, which gives it
// back to [Events.Deliver] until it is delivered or refused for good. The id in
// idempotence_id is made once and kept over all repetitions. A stream, which has topics
// for all that, encodes its activities' events by [Sender.AppendActivityEvent].
//
// # Goroutines
//
// Constructors start nothing. A Segments starts a goroutine per request, at most
// MaxInFlight, and Close waits for them. An Events has its Run.
//
// User ids, identifiers and data are in no error and no log.
package odp
