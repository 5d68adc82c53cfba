package pipeline

import (
	"bytes"
	"strings"

	"sortition/decision"
)

// The bounds of an event batch when nothing else is configured.
const (
	DefaultBatchVisitors = 10      // as the SDKs have it: event-batching.md section 2
	DefaultBatchBytes    = 1 << 20 // 1 MiB
)

// An EventBody is one finished event batch: the bytes to POST, and where to.
type EventBody struct {
	Endpoint string // URL of the event endpoint
	Revision string
	ID       string // id of its first event, which is unique to it and the same when it is made again
	Visitors int
	Body     []byte

	head  int // bytes of Body before the first visitor
	first int // place of the first visitor among those added since the last Flush
}

// An EventBatcher collects visitors into event batches. Visitors stay in order;
// a batch is closed when it is full or when the next visitor needs another head
// (project, revision, client, …) or endpoint. It belongs to one worker.
// Source: event-batching.md EB-P1, EB-12, EB-13.
type EventBatcher struct {
	maxVisitors, maxBytes int
	bodies                []EventBody
	body                  []byte
	visitors              int
	id                    string
	project               *decision.Project
	client                decision.Client
	head                  []byte // of project and client
	open                  []byte // head of the batch being filled
	endpoint, revision    string

	// Of the visitors added since the last Flush, also after it, until the next Add.
	marks     []visitorMark
	ids       []byte
	isFlushed bool
	spare     [][]byte // of recycled bodies
}

// visitorMark is where a visitor ends in its body, and its id in ids.
type visitorMark struct{ end, idEnd int }

// NewEventBatcher makes a batcher of at most maxVisitors visitors and, unless
// one visitor alone is larger, maxBytes bytes a batch. Zero stands for the
// default.
func NewEventBatcher(maxVisitors, maxBytes int) *EventBatcher {
	if maxVisitors <= 0 {
		maxVisitors = DefaultBatchVisitors
	}
	if maxBytes <= 0 {
		maxBytes = DefaultBatchBytes
	}
	return &EventBatcher{maxVisitors: maxVisitors, maxBytes: maxBytes}
}

// Add appends a visitor, whose bytes and id are copied.
func (b *EventBatcher) Add(p *decision.Project, client decision.Client, visitor []byte, id string) {
	if p != b.project || client != b.client {
		b.project, b.client = p, client
		b.head = p.AppendBatchHead(b.head[:0], client)
	}
	if b.visitors > 0 {
		isFull := b.visitors == b.maxVisitors || len(b.body)+len(visitor)+len(`,]}`) > b.maxBytes
		if isFull || !bytes.Equal(b.head, b.open) || b.endpoint != p.EventEndpoint() {
			b.close()
		}
	}
	if b.isFlushed {
		b.marks, b.ids, b.isFlushed = b.marks[:0], b.ids[:0], false
	}
	if b.visitors == 0 {
		b.open = append(b.open[:0], b.head...)
		b.endpoint = p.EventEndpoint()
		b.id, b.revision = strings.Clone(id), p.Revision()
		b.body = append(b.room(len(b.head)+(len(visitor)+1)*min(b.maxVisitors, 16)), b.head...)
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, visitor...)
	b.visitors++
	b.ids = append(b.ids, id...)
	b.marks = append(b.marks, visitorMark{end: len(b.body), idEnd: len(b.ids)})
}

// Added is how many visitors have been added since the last Flush.
func (b *EventBatcher) Added() int {
	if b.isFlushed {
		return 0
	}
	return len(b.marks)
}

// room returns an empty buffer for about n bytes.
func (b *EventBatcher) room(n int) []byte {
	if last := len(b.spare) - 1; last >= 0 {
		buffer := b.spare[last]
		b.spare = b.spare[:last]
		return buffer
	}
	return make([]byte, 0, n+n/8)
}

// Recycle takes back the bytes of bodies that nobody reads any more, for those to
// come. It is for who stores a batch's bodies and then forgets them.
func (b *EventBatcher) Recycle(bodies []EventBody) {
	const maxKept, maxKeptSize = 4096, 64 << 10 // a giant's buffer is not kept
	for i := range bodies {
		if len(b.spare) < maxKept && cap(bodies[i].Body) <= maxKeptSize {
			b.spare = append(b.spare, bodies[i].Body[:0])
		}
		bodies[i].Body = nil
	}
}

// appendSingles appends one batch for each visitor of a body of the last Flush,
// in order. It must come before the next Add.
func (b *EventBatcher) appendSingles(dst []EventBody, body *EventBody) []EventBody {
	start := body.head
	for i := body.first; i < body.first+body.Visitors; i++ {
		idStart := 0
		if i > 0 {
			idStart = b.marks[i-1].idEnd
		}
		one := append(make([]byte, 0, body.head+b.marks[i].end-start+2), body.Body[:body.head]...)
		one = decision.AppendBatchTail(append(one, body.Body[start:b.marks[i].end]...))
		dst = append(dst, EventBody{
			Endpoint: body.Endpoint, Revision: body.Revision, ID: string(b.ids[idStart:b.marks[i].idEnd]),
			Visitors: 1, Body: one, head: body.head, first: i,
		})
		start = b.marks[i].end + 1 // the comma
	}
	return dst
}

func (b *EventBatcher) close() {
	b.bodies = append(b.bodies, EventBody{
		Endpoint: b.endpoint, Revision: b.revision, ID: b.id, Visitors: b.visitors,
		Body: decision.AppendBatchTail(b.body), head: len(b.open), first: len(b.marks) - b.visitors,
	})
	b.body, b.visitors = nil, 0
}

// Flush closes the batch being filled and returns all finished ones, which are
// the caller's from then on.
func (b *EventBatcher) Flush() []EventBody {
	if b.visitors > 0 {
		b.close()
	}
	out := b.bodies
	b.bodies, b.isFlushed = nil, true
	return out
}
