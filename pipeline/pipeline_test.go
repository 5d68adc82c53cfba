package pipeline

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

// silent is a Subscriber that has nothing to say until it is told to go.
type silent struct{}

func (silent) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	context.AfterFunc(ctx, func() { close(messages) })
	return messages, nil
}

func (silent) Close() error { return nil }

// A stream that is stopped while it starts ends, like any other: Watermill makes the
// channel that says a handler has stopped only when it starts it.
func TestRunEndsHoweverSoonItIsStopped(t *testing.T) {
	for i := range 300 {
		p, err := New(Options{}, Leg{Stage: newTestAssign(t, &store{}), From: silent{}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1) // capacity 1: written once
		go func() { ended <- p.Run(ctx) }()
		for range i % 30 {
			runtime.Gosched()
		}
		stop()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Fatalf("round %d: Run goes on", i)
		}
	}
}
