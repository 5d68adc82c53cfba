// Package sinks is where results go.
//
// # Delivery
//
// A [Batcher] collects the impressions and conversions of a program in memory
// and closes a [Batch] when it is full, old, or when the next event needs another
// head or address. From then on a batch is bytes that nobody changes: every
// attempt, and every attempt after a crash, posts the same ones, so that the
// endpoint recognises repeats by their uuids.
//
// A [Poster] posts. One function, [IsPermanent], decides what a failure means:
// refused for good (3xx, and 4xx but 408, 425 and 429), or worth another try
// (everything else). What is too large (413) is halved, down to one visitor.
// [Poster.Deliver] makes a few quick attempts and hands back what it couldn't
// deliver; [Poster.DeliverDurably] goes on, behind a circuit breaker, for those
// who have a durable queue.
//
// An [Outbox] is such a queue for programs without Kafka, on disk. Append returns
// when a batch is there, Run delivers, a crash repeats and never loses. At every
// moment appended = delivered + refused + pending; what was refused is kept with
// the reason, until somebody clears it or, if it has a bound of its own, the oldest
// makes way.
//
//	Batcher ──▶ Outbox.Append ──disk──▶ Outbox.Run ──▶ Poster.DeliverDurably ──▶ endpoint
//	    └─────────────────────────────────────────────▶ Poster.Deliver ────────▶ endpoint
//
// Nothing here drops an event silently: a full batcher or outbox makes its caller
// wait or returns an error, closing tells what remains, and errors name the host
// but neither users nor the rest of an address.
//
// # The validator
//
// The event endpoint answers 204 to whatever it is sent and sorts it out later,
// out of sight: an event without its ids, from the future or of an unknown kind
// never shows up in any result. [Validate] tells beforehand. It compares a body
// with the schema of events.md 2.1 and the rules between its fields, and with the
// datafile if one is given ([CatalogOf]).
//
// A [Validator] does the same over many bodies and remembers enough of them to
// see what one body can't show: a uuid used again for something else, and a
// conversion from before its visitor's first decision. Its memory is bounded:
// the oldest is forgotten first, which can hide a [Problem] but never invents one.
//
// Problems name a place and a rule. No user id and no attribute value is in them.
package sinks
