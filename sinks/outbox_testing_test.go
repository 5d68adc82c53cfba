package sinks_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// A runningOutbox is an outbox that delivers.
type runningOutbox struct {
	*sinks.Outbox
	poster *sinks.Poster
}

func newRunningOutbox(t *testing.T, dir string, o sinks.OutboxOptions) *runningOutbox {
	t.Helper()
	outbox, err := sinks.OpenOutbox(dir, o)
	require.NoError(t, err)
	r := &runningOutbox{Outbox: outbox, poster: newPoster(t, sinks.PosterOptions{})}
	done := make(chan error, 1) // 1: Run ends even if nobody waits any more
	go func() { done <- outbox.Run(context.Background(), r.poster.DeliverDurably) }()
	t.Cleanup(func() {
		require.NoError(t, outbox.Close())
		require.ErrorIs(t, <-done, sinks.ErrClosed)
	})
	return r
}

func (r *runningOutbox) append(t *testing.T, batches ...sinks.Batch) {
	t.Helper()
	for _, b := range batches {
		_, err := r.Append(deadline(t), b)
		require.NoError(t, err)
	}
}

func (r *runningOutbox) refused(t *testing.T) []sinks.RefusedBatch { return refusedOf(t, r.Outbox) }

func refusedOf(t *testing.T, o *sinks.Outbox) []sinks.RefusedBatch {
	t.Helper()
	var all []sinks.RefusedBatch
	for batch, err := range o.Refused() {
		require.NoError(t, err)
		all = append(all, batch)
	}
	return all
}

func tally(batches, visitors uint64) sinks.Tally {
	return sinks.Tally{Batches: batches, Visitors: visitors}
}
