package kafkago

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
)

func TestAwaitWaitsForTopics(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		early, late := b.topic(t, 2), b.name(t, "late")
		var log bytes.Buffer
		said := slog.New(slog.NewTextHandler(&log, nil))
		_, err := b.connection().Await(t.Context(), []string{early, late, late + "r"}, 300*time.Millisecond, said)
		require.ErrorContains(t, err, "waited 300ms for topics")
		require.ErrorContains(t, err, late)
		require.ErrorContains(t, err, late+"r")
		assert.NotContains(t, err.Error(), early)
		assert.Contains(t, log.String(), "waiting for topics")

		created := make(chan error, 1) // capacity 1: written once
		go func() {
			created <- kafkatest.CreateTopic(context.WithoutCancel(t.Context()), b.addrs, kafkatest.Topic{Name: late, Partitions: 3})
		}()
		partitions, err := b.connection().Await(t.Context(), []string{early, late}, patience, said)
		require.NoError(t, err)
		require.Equal(t, map[string]int{early: 2, late: 3}, partitions)
		require.NoError(t, <-created)
	})
}

func TestAwaitNamesTheBrokersThatDoNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	start := time.Now()
	_, err = Connection{Brokers: []string{address}}.Await(t.Context(), []string{"a"}, 300*time.Millisecond, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "waited 300ms for brokers "+address)
	require.ErrorContains(t, err, "refused")
	assert.Less(t, time.Since(start), 10*time.Second)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Connection{Brokers: []string{address}}.Await(ctx, []string{"a"}, patience, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, context.Canceled)
}
