// Package emulator is a local stand-in for the Optimizely cloud: what clients
// fetch from it and send to it, over real HTTP, without an account or the internet.
//
//	GET  /datafiles/{key}.json        datafiles, as the CDN serves them
//	GET  /datafiles/auth/{key}.json   the same, behind an access token
//	POST /v1/events                   impressions and conversions
//	POST /v3/graphql                  segments of a user, as ODP answers
//	POST /v3/events                   ODP events
//	POST /predict/{rule}              contextual bandits
//	     /admin/…                     what people and tests do with it, see admin.go
//	GET  /                            a page that lists what was received
//
// An [Emulator] is an http.Handler; [Listen] gives it an address, and [Start] does
// both for a test. Every request to the cloud's routes becomes an [Attempt], also
// those that a fault cut short, and the event bodies among them are held against
// the validator of package sinks. It answers 204 as the cloud does, and tells what
// the 204 hides.
//
// # Faults
//
// A [Fault] makes a route fail in a way networks and services do: a status, a
// delay, no answer, a connection closed before, after or amid, wrong JSON, a rate
// limit. They come by number (the next three requests), by chance (a third of
// them, from a seed), by content, or always; of several the first that applies is
// used. [Emulator.Script] is the short form: em.Script("/v1/events", 500, 500, 204).
//
// # Memory
//
// It keeps the latest attempts up to a number and a sum of bytes, and counts all.
// With [Options.Dir] attempts are also appended to files, each before it is
// answered, and read again at the next start: what was acknowledged is there even
// if the process was killed. (A crash of the whole machine may cost the last
// moments: files are not synced per request.)
//
// Nothing here decides: predictions and segments come from tables that a test
// fills, or from a seed. It is for tests, for `processor dev` and for `processor
// emulator`.
package emulator
