package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"sortition/decision"
	"sortition/sinks"
)

// A UserEvent is one finished impression or conversion: the visitor object, the
// head of the batches it may stand in, and the address it belongs to. Its bytes
// are valid during the call it is handed to. Source: event-batching.md EB-12.
type UserEvent = sinks.Visitor

// An EventProcessor takes events from decisions and conversions to their
// destination, in place of the client's own batches and delivery. It must be safe
// for concurrent use. Source: config.md section 1, pages.md I-12.
type EventProcessor interface {
	// Process takes the events of one call, in order. It should not wait long: the
	// decision waits for it. An error means that not all of them were taken; it goes
	// to the error handler, and to the caller of TrackEvent.
	Process(ctx context.Context, events []UserEvent) error
	// Close takes no more events and sees to those taken until ctx ends. The client
	// calls it once.
	Close(ctx context.Context) error
}

// An EventDispatcher sends batches of events in place of the client's own HTTP
// delivery: the SDKs' event dispatcher. Calls come one at a time, in order. The
// batch is the dispatcher's to keep. An error hands it back: to the error handler,
// as an [EventError], unless the client is being closed.
// Source: event-batching.md EB-19, pages.md I-5.
type EventDispatcher interface {
	DispatchEvent(ctx context.Context, e LogEvent) error
}

// A LogEvent is one batch of events as it is posted.
// Source: event-batching.md EB-4, legacy-api.md section 7.
type LogEvent struct {
	URL    string
	Verb   string // "POST"
	Header http.Header
	Params json.RawMessage // the body: one JSON object, byte for byte what is posted
}

// MarshalJSON gives the SDKs' form, {url, params, http_verb, headers}.
func (e LogEvent) MarshalJSON() ([]byte, error) {
	headers := make(map[string]string, len(e.Header))
	for name := range e.Header {
		headers[name] = e.Header.Get(name)
	}
	return json.Marshal(struct {
		URL     string            `json:"url"`
		Params  json.RawMessage   `json:"params"`
		Verb    string            `json:"http_verb"`
		Headers map[string]string `json:"headers"`
	}{e.URL, e.Params, e.Verb, headers})
}

func logEventOf(b sinks.Batch) LogEvent {
	return LogEvent{URL: b.Endpoint, Verb: http.MethodPost, Header: http.Header{"Content-Type": {"application/json"}}, Params: b.Body}
}

// SingleEvent is the batch that an event alone makes.
// Source: event-batching.md EB-27, events.md EV-12.
func SingleEvent(e UserEvent) LogEvent { return logEventOf(batchOf([]UserEvent{e})) }

// batchOf joins events of one head and address. The bytes are copied.
func batchOf(events []UserEvent) sinks.Batch {
	size := len(events[0].Head) + len(`]}`)
	for i := range events {
		size += len(events[i].Body) + 1
	}
	body := append(make([]byte, 0, size), events[0].Head...)
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, events[i].Body...)
	}
	return sinks.Batch{Endpoint: events[0].Endpoint, ID: events[0].ID, Visitors: len(events), Body: decision.AppendBatchTail(body)}
}

// eachBatch calls f with runs of events that may share a batch, of at most
// maxVisitors and, unless one alone is larger, about maxBytes.
// Source: event-batching.md EB-P1, EB-P9.
func eachBatch(events []UserEvent, maxVisitors, maxBytes int, f func([]UserEvent) error) error {
	for len(events) > 0 {
		first, n, size := &events[0], 1, len(events[0].Head)+len(events[0].Body)+len(`]}`)
		for n < len(events) && n < maxVisitors {
			e := &events[n]
			size += 1 + len(e.Body)
			if size > maxBytes || e.Endpoint != first.Endpoint || !bytes.Equal(e.Head, first.Head) {
				break
			}
			n++
		}
		if err := f(events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// A uuidSource makes random version 4 UUIDs, the randomness fetched in bulk. It
// belongs to one goroutine at a time. Source: event-batching.md EB-P8: a program's
// own events have no stable coordinates to derive an id from.
type uuidSource struct {
	random [512]byte
	left   int
}

func (s *uuidSource) next() string {
	if s.left == 0 {
		_, _ = rand.Read(s.random[:]) // never fails
		s.left = len(s.random)
	}
	id := s.random[s.left-16 : s.left]
	s.left -= 16
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
