package sinks_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"

	"sortition/sinks"
)

// Events of a program without Kafka: collected in memory, kept on disk,
// delivered in the background.
func Example() {
	var received atomic.Int64
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received.Add(int64(len(body)))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer endpoint.Close()
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	poster, err := sinks.NewPoster(sinks.PosterOptions{})
	if err != nil {
		panic(err)
	}
	defer poster.Close()
	outbox, err := sinks.OpenOutbox(dir, sinks.OutboxOptions{WhenFull: sinks.Block})
	if err != nil {
		panic(err)
	}
	delivering := make(chan error, 1) // 1: Run can end before anybody asks
	go func() { delivering <- outbox.Run(ctx, poster.DeliverDurably) }()

	batcher, err := sinks.NewBatcher(sinks.BatcherOptions{
		Dispatch: func(ctx context.Context, b sinks.Batch) error {
			_, err := outbox.Append(ctx, b)
			return err
		},
		OnFailure: func(b sinks.Batch, err error) { fmt.Println(b.Visitors, "events not stored:", err) },
	})
	if err != nil {
		panic(err)
	}
	batching := make(chan error, 1) // 1: as above
	go func() { batching <- batcher.Run(ctx) }()

	for range 3 {
		// Made by decision.Project.AppendBatchHead and decision.Impression.AppendVisitor.
		err := batcher.Add(ctx, sinks.Visitor{Endpoint: endpoint.URL, Head: []byte(`{"visitors":[`), Body: []byte(`{"visitor_id":"u"}`)})
		if err != nil {
			panic(err)
		}
	}

	remains, err := batcher.Close(ctx)
	fmt.Println("not in the outbox:", len(remains), err, <-batching)
	fmt.Println("settled:", outbox.Wait(ctx))
	fmt.Println("received:", received.Load(), "bytes")
	account := outbox.Account()
	fmt.Println("delivered", account.Delivered.Visitors, "events in", account.Delivered.Batches, "body")
	fmt.Println("closed:", outbox.Close(), <-delivering)
	// Output:
	// not in the outbox: 0 <nil> <nil>
	// settled: <nil>
	// received: 71 bytes
	// delivered 3 events in 1 body
	// closed: <nil> outbox: closed
}
