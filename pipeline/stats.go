package pipeline

import (
	"sync/atomic"

	"sortition/schemas"
)

// Reasons of dead letters beside the reject codes of package schemas.
const (
	// ReasonPanic is a record over which the engine, or a service it asked,
	// panicked: a bug, which is logged with its stack.
	ReasonPanic schemas.RejectCode = "panic"
	// ReasonSegments is an activity whose user's segments can't be had, when that is
	// configured to keep it from being decided; the detail is the class of the failure.
	ReasonSegments schemas.RejectCode = "segments_unavailable"
	// ReasonEndpointRefused is a finished body, or a part of one, that its endpoint
	// refused for good.
	ReasonEndpointRefused schemas.RejectCode = "endpoint_refused"
	// ReasonOutputRefused is an activity with an output that can never be stored,
	// such as a decision record larger than its topic allows.
	ReasonOutputRefused schemas.RejectCode = "output_refused"
)

// Reasons returns every code a dead letter of the stream can have. The caller
// owns the slice.
func Reasons() []schemas.RejectCode {
	return append(schemas.RejectCodes(), ReasonPanic, ReasonSegments, ReasonOutputRefused, ReasonEndpointRefused, ReasonODPEvent)
}

// Stats are running totals since an [Assign] was made. What a nacked batch has cost
// is counted when it is done at last, once; only Repeats shows it.
type Stats struct {
	Batches       uint64                        // stored and acked
	Repeats       uint64                        // tries of batches that failed, and so come again
	Read          uint64                        // records in stored batches; Decided + DeadLetters, less those that are both
	Decided       uint64                        // activities whose outputs are stored, except for refused events
	DeadLetters   map[schemas.RejectCode]uint64 // by reason; only those that occurred
	Records       uint64                        // decision records stored: as Decided, or in the flat layout one per flag
	Flags         uint64                        // decisions made for flags
	EventBodies   uint64                        // event batches stored
	Visitors      uint64                        // impressions and conversions in them
	UnknownEvents uint64                        // conversions of events the datafile doesn't know: nothing is sent for them
	UnknownFields uint64                        // fields of activities that nobody asked for
	Suppressed    uint64                        // impressions left out, because they were stored shortly before
	ODPEvents     uint64                        // ODP events stored
	ODPBodies     uint64                        // batches of them
	ODPLeftOut    uint64                        // ODP events in activities, if there is no topic for them

	SegmentsKnown   uint64 // decided activities whose segments were found out
	SegmentsUnknown uint64 // decided activities whose segments couldn't be had
}

// Rejected is the sum of DeadLetters.
func (s *Stats) Rejected() uint64 {
	var n uint64
	for _, v := range s.DeadLetters {
		n += v
	}
	return n
}

// tally is what one batch adds to the totals.
type tally struct {
	decided, records, flags, bodies, visitors, unknownEvents, unknownFields, odpEvents, odpBodies,
	odpLeftOut, suppressed, segmentsKnown, segmentsUnknown uint64

	besides int // dead letters of ODP events beside another one of the same record
}

type counters struct {
	batches, repeats, read, decided, records, flags, bodies, visitors,
	unknownEvents, unknownFields, odpEvents, odpBodies, odpLeftOut, suppressed, segmentsKnown, segmentsUnknown atomic.Uint64

	reasons     []schemas.RejectCode // constant; deadLetters has their counts
	deadLetters []atomic.Uint64
}

func newCounters() *counters {
	c := &counters{reasons: Reasons()}
	c.deadLetters = make([]atomic.Uint64, len(c.reasons))
	return c
}

// done adds a stored batch. It is called once per batch, not per record.
func (c *counters) done(t *tally, fates []fate) {
	for i := range fates {
		if code := fates[i].code; code != "" {
			c.deadLetter(code)
		}
	}
	for range t.besides {
		c.deadLetter(ReasonODPEvent)
	}
	for _, add := range []struct {
		to *atomic.Uint64
		n  uint64
	}{
		{&c.decided, t.decided}, {&c.records, t.records}, {&c.flags, t.flags}, {&c.bodies, t.bodies},
		{&c.visitors, t.visitors}, {&c.unknownEvents, t.unknownEvents}, {&c.unknownFields, t.unknownFields},
		{&c.odpEvents, t.odpEvents}, {&c.odpBodies, t.odpBodies}, {&c.odpLeftOut, t.odpLeftOut}, {&c.suppressed, t.suppressed},
		{&c.segmentsKnown, t.segmentsKnown}, {&c.segmentsUnknown, t.segmentsUnknown}, {&c.batches, 1},
		// Last, so that who waits for it sees the others.
		{&c.read, uint64(len(fates))},
	} {
		if add.n > 0 {
			add.to.Add(add.n)
		}
	}
}

func (c *counters) deadLetter(code schemas.RejectCode) {
	for i, known := range c.reasons {
		if known == code {
			c.deadLetters[i].Add(1)
			return
		}
	}
	panic("BUG: dead letter with unlisted reason " + string(code))
}

func (c *counters) stats() Stats {
	s := Stats{
		Read: c.read.Load(), Batches: c.batches.Load(), Repeats: c.repeats.Load(), Decided: c.decided.Load(),
		Records: c.records.Load(), Flags: c.flags.Load(), EventBodies: c.bodies.Load(), Visitors: c.visitors.Load(),
		UnknownEvents: c.unknownEvents.Load(), UnknownFields: c.unknownFields.Load(), ODPEvents: c.odpEvents.Load(),
		ODPBodies: c.odpBodies.Load(), ODPLeftOut: c.odpLeftOut.Load(), Suppressed: c.suppressed.Load(),
		SegmentsKnown: c.segmentsKnown.Load(), SegmentsUnknown: c.segmentsUnknown.Load(),
		DeadLetters: map[schemas.RejectCode]uint64{},
	}
	for i := range c.reasons {
		if n := c.deadLetters[i].Load(); n > 0 {
			s.DeadLetters[c.reasons[i]] = n
		}
	}
	return s
}
