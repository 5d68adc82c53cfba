package pipeline

import (
	"fmt"
	"strings"

	"sortition/schemas"
)

// An ODPEncoder writes ODP events. Safe for concurrent use.
type ODPEncoder interface {
	// AppendActivityEvent appends e, one of a's events, as ODP takes it: checked, with the
	// identifiers of both and the data that all events carry; id is its idempotence id.
	// The same arguments give the same bytes. The error says why this event can never be
	// sent; it holds no identifier and nothing of the data.
	AppendActivityEvent(dst []byte, a *schemas.Activity, e *schemas.ODPEvent, id string) ([]byte, error)
}

// ReasonODPEvent is an activity with an ODP event that can't be sent. All else that
// came of the activity, its other ODP events included, is stored beside its dead
// letter.
const ReasonODPEvent schemas.RejectCode = "invalid_odp_event"

// MaxODPEvents is the most that ODP takes in one body. Source: odp.md section 5.1.
const MaxODPEvents = 10

// An ODPBody is one finished batch of ODP events: the bytes to POST. Where to, and with
// which key, is the datafile's of the moment it is delivered.
type ODPBody struct {
	ID     string // idempotence id derived for its first event, which is unique to it and the same when it is made again
	Events int
	Body   []byte // a JSON array

	first int // place of the first event among those added since the last Flush
}

// An ODPBatcher collects ODP events into bodies, in order. It belongs to one worker.
// Source: odp.md section 5.1.
type ODPBatcher struct {
	encoder  ODPEncoder
	maxBytes int
	bodies   []ODPBody
	body     []byte
	events   int
	id       string
	event    []byte
	ordinals map[string]int // events so far of an action, of one activity

	// Of the events added since the last Flush, also after it, until the next Add.
	marks     []odpMark
	ids       []byte
	isFlushed bool
	spare     [][]byte // of recycled bodies
}

// odpMark is where an event ends in its body, its id in ids, and the record it is of.
type odpMark struct{ end, idEnd, record int }

// NewODPBatcher makes a batcher of at most [MaxODPEvents] events and, unless one event
// alone is larger, maxBytes bytes a body. Zero stands for the default,
// [DefaultBatchBytes].
func NewODPBatcher(encoder ODPEncoder, maxBytes int) *ODPBatcher {
	if maxBytes <= 0 {
		maxBytes = DefaultBatchBytes
	}
	return &ODPBatcher{encoder: encoder, maxBytes: maxBytes, ordinals: map[string]int{}}
}

// Add appends e, one of a's events; record is the place of a's record in the
// micro-batch. After an error, which is the encoder's, the batcher is as it was.
func (b *ODPBatcher) Add(a *schemas.Activity, e *schemas.ODPEvent, id string, record int) error {
	var err error
	if b.event, err = b.encoder.AppendActivityEvent(b.event[:0], a, e, id); err != nil {
		return err
	}
	if b.isFlushed {
		b.marks, b.ids, b.isFlushed = b.marks[:0], b.ids[:0], false
	}
	if b.events == MaxODPEvents || b.events > 0 && len(b.body)+len(b.event)+len(`,]`) > b.maxBytes {
		b.close()
	}
	if b.events == 0 {
		b.id = strings.Clone(id)
		b.body = append(b.room(), '[')
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, b.event...)
	b.events++
	b.ids = append(b.ids, id...)
	b.marks = append(b.marks, odpMark{end: len(b.body), idEnd: len(b.ids), record: record})
	return nil
}

func (b *ODPBatcher) room() []byte {
	if last := len(b.spare) - 1; last >= 0 {
		buffer := b.spare[last]
		b.spare = b.spare[:last]
		return buffer
	}
	return make([]byte, 0, min(MaxODPEvents*(len(b.event)+1)+2, 64<<10))
}

func (b *ODPBatcher) close() {
	b.bodies = append(b.bodies, ODPBody{ID: b.id, Events: b.events, Body: append(b.body, ']'), first: len(b.marks) - b.events})
	b.body, b.events = nil, 0
}

// Flush closes the body being filled and returns all finished ones, which are the
// caller's from then on.
func (b *ODPBatcher) Flush() []ODPBody {
	if b.events > 0 {
		b.close()
	}
	out := b.bodies
	b.bodies, b.isFlushed = nil, true
	return out
}

// Recycle takes back the bytes of bodies that nobody reads any more, for those to
// come.
func (b *ODPBatcher) Recycle(bodies []ODPBody) {
	const maxKept, maxKeptSize = 1024, 64 << 10 // a giant's buffer is not kept
	for i := range bodies {
		if len(b.spare) < maxKept && cap(bodies[i].Body) <= maxKeptSize {
			b.spare = append(b.spare, bodies[i].Body[:0])
		}
		bodies[i].Body = nil
	}
}

// recordOf returns the record that the first event of a body of the last Flush is of.
// It must come before the next Add, as must appendSingles.
func (b *ODPBatcher) recordOf(body *ODPBody) int { return b.marks[body.first].record }

// appendSingles appends one body for each event of a body of the last Flush, in order.
func (b *ODPBatcher) appendSingles(dst []ODPBody, body *ODPBody) []ODPBody {
	start := len(`[`)
	for i := body.first; i < body.first+body.Events; i++ {
		idStart := 0
		if i > 0 {
			idStart = b.marks[i-1].idEnd
		}
		event := body.Body[start:b.marks[i].end]
		one := append(append(append(make([]byte, 0, len(event)+2), '['), event...), ']')
		dst = append(dst, ODPBody{ID: string(b.ids[idStart:b.marks[i].idEnd]), Events: 1, Body: one, first: i})
		start = b.marks[i].end + len(`,`)
	}
	return dst
}

// AddODPEvents adds the ODP events of the last activity to a batch; record is the place
// of its record in the micro-batch. It returns how many were added, and, if one or more
// can't be sent, the fate of the activity: a dead letter beside what it has else.
//
// Each event's idempotence id is derived like those of other events, by its action. ODP
// events have no time of their own on the wire, and none is made up.
// Source: odp.md section 5.2, OD-21, OD-P6, OD-P11.
func (a *Assigner) AddODPEvents(to *ODPBatcher, record int) (added int, invalid fate) {
	events := a.activity.ODPEvents
	clear(to.ordinals) // its keys lie in the decoder's buffers
	for i := range events {
		action := events[i].Action
		id := a.ids.Text(schemas.IDODPEvent, action, to.ordinals[action])
		to.ordinals[action]++
		err := to.Add(a.activity, &events[i], id, record)
		switch {
		case err == nil:
			added++
		case invalid.code == "":
			invalid = fate{code: ReasonODPEvent, detail: fmt.Sprintf("odp_events.%d: %s", i, err)}
		}
	}
	if n := len(events) - added; n > 1 {
		invalid.detail += fmt.Sprintf(" (and %d more)", n-1)
	}
	return added, invalid
}
