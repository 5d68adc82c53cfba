package pipeline

import (
	"strconv"

	"sortition/schemas"
)

// What a worker keeps from batch to batch, and what a rare giant batch leaves to
// the garbage collector.
const maxKeptBytes = 32 << 20

// An origin is what an output was made of, so that a refusal finds its activity.
type origin struct {
	kind   outputKind
	record int // index in the batch, of decisions and dead letters
	body   int // index in outbox.bodies of events, in outbox.odpBodies of ODP events
}

type outputKind uint8

const (
	decisionOutput outputKind = iota
	eventOutput
	odpOutput
	deadLetterOutput
)

// An outbox collects the outputs of a batch. Outputs point into bytes and headers,
// which only grow meanwhile: one that has been outgrown stays what it was. It
// belongs to one worker and is reused.
type outbox struct {
	outputs   []Output
	origins   []origin // of outputs, index by index
	bodies    []EventBody
	odpBodies []ODPBody
	bytes     []byte
	headers   []Header
}

func (o *outbox) reset() {
	clear(o.outputs) // what they point to is not ours to keep alive
	clear(o.bodies)
	clear(o.odpBodies)
	clear(o.headers)
	if cap(o.bytes) > maxKeptBytes {
		*o = outbox{}
	}
	o.outputs, o.origins, o.bodies, o.odpBodies = o.outputs[:0], o.origins[:0], o.bodies[:0], o.odpBodies[:0]
	o.bytes, o.headers = o.bytes[:0], o.headers[:0]
}

// next forgets the outputs, but not what they pointed to.
func (o *outbox) next() { o.outputs, o.origins, o.bodies, o.odpBodies = nil, nil, nil, nil }

func (o *outbox) text(s string) []byte {
	start := len(o.bytes)
	o.bytes = append(o.bytes, s...)
	return o.bytes[start:len(o.bytes):len(o.bytes)]
}

func (o *outbox) add(out Output, from origin) {
	o.outputs = append(o.outputs, out)
	o.origins = append(o.origins, from)
}

// addDecisions adds the decision records of the activity just assigned: one, or
// in the flat layout one per decision. They have the time of their input record;
// the activity's own time, which no broker has agreed to, is in the value.
func (o *outbox) addDecisions(topic string, a *Assigner, r *Record, revision []byte, index int) int {
	key := o.text(a.record.UserID)
	if a.settings.Layout == Nested {
		o.addDecision(topic, key, a.record.ID, r, revision, index, a.AppendRecord)
		return 1
	}
	for i := range a.NumRows() {
		o.addDecision(topic, key, a.record.Decisions[i].ID, r, revision, index, func(dst []byte) []byte { return a.AppendRow(dst, i) })
	}
	return a.NumRows()
}

func (o *outbox) addDecision(topic string, key []byte, id string, r *Record, revision []byte, index int, render func([]byte) []byte) {
	start := len(o.bytes)
	o.bytes = render(o.bytes)
	value := o.bytes[start:len(o.bytes):len(o.bytes)]
	start = len(o.headers)
	o.headers = append(o.headers, Header{Key: schemas.HeaderID, Value: o.text(id)}, Header{Key: schemas.HeaderRevision, Value: revision})
	for _, h := range r.Headers {
		if isTraceHeader(h.Key) {
			o.headers = append(o.headers, h)
		}
	}
	headers := o.headers[start:len(o.headers):len(o.headers)]
	o.add(Output{Topic: topic, Key: key, Value: value, Headers: headers, Time: r.Time}, origin{kind: decisionOutput, record: index})
}

// isTraceHeader tells whether a header is part of the trace context, which a
// decision record takes over. Source: W3C Trace Context.
func isTraceHeader(key string) bool { return key == "traceparent" || key == "tracestate" }

// addEvents adds event batches. They have no key: a batch holds several users. r
// is the record of a batch's first event.
func (o *outbox) addEvents(topic string, body *EventBody, r *Record) {
	start := len(o.headers)
	o.headers = append(o.headers,
		Header{Key: schemas.HeaderID, Value: o.text(body.ID)},
		Header{Key: schemas.HeaderRevision, Value: o.text(body.Revision)},
		Header{Key: schemas.HeaderEndpoint, Value: o.text(body.Endpoint)})
	o.bodies = append(o.bodies, *body)
	o.add(Output{Topic: topic, Value: body.Body, Headers: o.headers[start:len(o.headers):len(o.headers)], Time: r.Time},
		origin{kind: eventOutput, body: len(o.bodies) - 1})
}

// addODPEvents adds a batch of ODP events. Where it goes, and with which key, is known
// when it is delivered. r is the record of its first event.
func (o *outbox) addODPEvents(topic string, body *ODPBody, revision []byte, r *Record) {
	start := len(o.headers)
	o.headers = append(o.headers, Header{Key: schemas.HeaderID, Value: o.text(body.ID)}, Header{Key: schemas.HeaderRevision, Value: revision})
	o.odpBodies = append(o.odpBodies, *body)
	o.add(Output{Topic: topic, Value: body.Body, Headers: o.headers[start:len(o.headers):len(o.headers)], Time: r.Time},
		origin{kind: odpOutput, body: len(o.odpBodies) - 1})
}

// addDeadLetter adds a record as it came, with its reason. The time it is given up
// is the record's own: a repeat must be the same bytes. (The broker knows when it
// was stored.)
func (o *outbox) addDeadLetter(topic string, p *place, r *Record, f fate, index int) {
	letter := schemas.DeadLetter{
		Reason: string(f.code), Detail: f.detail,
		Topic: p.topic, Partition: p.partition, Offset: r.Offset, Attempts: 1 + attempts(r.Headers), Time: r.Time,
	}
	start := len(o.headers)
	o.headers = append(o.headers, r.Headers...)
	for key, value := range letter.Headers() {
		o.headers = append(o.headers, Header{Key: key, Value: value})
	}
	o.add(Output{Topic: topic, Key: r.Key, Value: r.Value, Headers: o.headers[start:len(o.headers):len(o.headers)], Time: r.Time},
		origin{kind: deadLetterOutput, record: index})
}

// attempts is how often a record was a dead letter before it was sent round again.
func attempts(headers []Header) int {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key == schemas.HeaderDLAttempts {
			if n, err := strconv.ParseInt(string(headers[i].Value), 10, 32); err == nil && n > 0 {
				return int(n)
			}
			return 0
		}
	}
	return 0
}
