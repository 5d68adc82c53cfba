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
}

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
	if b.visitors == 0 {
		b.open = append(b.open[:0], b.head...)
		b.endpoint = p.EventEndpoint()
		b.id, b.revision = strings.Clone(id), p.Revision()
		b.body = append(make([]byte, 0, len(b.head)+len(visitor)*min(b.maxVisitors, 16)), b.head...)
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, visitor...)
	b.visitors++
}

func (b *EventBatcher) close() {
	b.bodies = append(b.bodies, EventBody{
		Endpoint: b.endpoint, Revision: b.revision, ID: b.id, Visitors: b.visitors,
		Body: decision.AppendBatchTail(b.body),
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
	b.bodies = nil
	return out
}
