package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"sortition/pipeline"
)

// deliveredTurn is a turn of the handler that delivers events, over a topic that has
// them, to an endpoint that takes everything and looks at nothing.
type deliveredTurn struct {
	*streamTurn
	filled []string // topics, as close returns them
	unused string   // the topic of events that is made for every stream
	server *http.Server
	served sync.WaitGroup
	events float64 // of an activity
}

func (b *bench) openDelivered(ctx context.Context, flags int, ends []int64) (t *deliveredTurn, err error) {
	t = &deliveredTurn{events: b.ready(flags).events}
	n := 0
	for _, end := range ends {
		n += int(end)
	}
	from, err := b.openStream(ctx, flags, true)
	if err != nil {
		return nil, err
	}
	_, err = timed(ctx, from, n)
	t.filled = from.close()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})}
	t.served.Go(func() { _ = t.server.Serve(listener) }) // it ends when it is closed
	t.streamTurn, err = b.openStream(ctx, flags, true, func(p *streamParts) {
		t.unused = p.topics.Events
		p.handlers, p.topics.Events = []string{pipeline.DeliverEvents}, from.topics.Events
		p.deliverEvents.endpoint = "http://" + listener.Addr().String()
	})
	if err != nil {
		err = errors.Join(err, t.server.Close())
		t.served.Wait()
		return nil, err
	}
	b.broker.groups[t.parts.groupOf(pipeline.DeliverEvents)] = true
	return t, nil
}

// progress is measured in events, whose bodies don't say how many activities they
// come from.
func (t *deliveredTurn) progress() int {
	return int(float64(t.deliverEvents.Stats().Delivered) / t.events)
}

func (t *deliveredTurn) rejected() uint64 { return t.deliverEvents.Stats().Refused }

func (t *deliveredTurn) close() []string {
	t.stream.close()
	_ = t.server.Close() // nobody waits for an answer
	t.served.Wait()
	return append(t.filled, t.topics.Decisions, t.unused, t.topics.DeadLetters)
}
