// Command oracle compares the engine with the official Python SDK on cases that
// nobody has seen before: `make oracle`.
//
// A case is a random user with attributes, segments, forced decisions, options, a
// profile, predictions and conversions, on a random datafile. Both sides answer it; what
// they decide, the requests their events make, what they ask a prediction service and
// the profiles they save are compared: numbers by value, event attributes and impressions in any order,
// without uuids, times and the name of the client.
//
// The SDK runs unmodified, in processes of python/answer.py, which is ours. The
// generator stays off the ground where SDK and engine differ on purpose (the P
// rules of the specification); where it can't without losing what surrounds
// it, a narrow rule in known.go recognises the difference, names the rule and
// counts it. Anything else is a bug: the case and its datafile are shrunk and kept in
// a file.
//
// How often each step of a decision, each kind of condition and each kind of event
// was met is counted as well. A run that misses one of them proves less than
// it seems to and fails.
package main
