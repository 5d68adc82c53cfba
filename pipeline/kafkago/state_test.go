package kafkago

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"sortition/pipeline"
)

// Trap 21: kafka-go's lag is that of one arbitrary partition, or -1.
func TestTrap21LagOfEveryPartition(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 400, 3
		topic, group := b.topic(t, partitions), b.name(t, "group")
		b.seed(t, topic, n, 50)
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 10 })
		require.Empty(t, s.Lags())
		require.Equal(t, SubscriberState{}, s.State())
		began := time.Now()
		messages := subscribe(t, s, topic)
		var held []*message.Message
		for range partitions {
			held = append(held, receive(t, messages))
		}
		lags := s.Lags()
		require.Len(t, lags, partitions)
		total := int64(0)
		for p, lag := range lags {
			require.Equal(t, topic, lag.Topic)
			require.EqualValues(t, p, lag.Partition)
			require.LessOrEqual(t, lag.Committed, int64(0))
			require.Zero(t, lag.Done)
			total += lag.Lag()
		}
		require.EqualValues(t, n, total)
		eventually(t, "all batches are in the hands of the test", func() bool { return s.State().InFlight == partitions })
		state := s.State()
		require.Equal(t, 1, state.Subscriptions)
		require.Equal(t, partitions, state.Assigned)
		require.Positive(t, state.Buffered)
		require.WithinRange(t, state.OldestInFlight, began, time.Now())
		require.WithinRange(t, state.LastFetch, began, time.Now())
		require.Zero(t, state.LastAck)

		for _, m := range held {
			m.Ack()
		}
		watched, stopWatching := context.WithCancel(t.Context())
		never := make(chan error, 1) // capacity 1: written once
		go func() {
			var err error
			for watched.Err() == nil {
				for _, lag := range s.Lags() {
					if lag.Lag() < 0 || lag.Committed > lag.End || lag.Committed > lag.Done {
						err = fmt.Errorf("%+v", lag)
					}
				}
			}
			never <- err
		}()
		collect(t, messages, n-10*partitions)
		b.seed(t, topic, n, 50)
		collect(t, messages, n)
		eventually(t, "nothing is left", func() bool {
			left := int64(0)
			for _, lag := range s.Lags() {
				left += lag.Lag()
			}
			return left == 0
		})
		stopWatching()
		require.NoError(t, <-never)
		eventually(t, "nothing is in flight", func() bool { return s.State().InFlight == 0 && s.State().Buffered == 0 })
		require.WithinRange(t, s.State().LastAck, began, time.Now())
		sum := int64(0)
		for _, lag := range s.Lags() {
			sum += lag.Committed
		}
		require.EqualValues(t, 2*n, sum)
		require.NoError(t, s.Close())
		require.Empty(t, s.Lags(), "what is not assigned has no lag here")
		require.Zero(t, s.State().Assigned)
	})
}

// A partition whose handler is stuck is not fetched, and so nothing tells where it
// ends; but its lag has to grow.
func TestTrap21LagOfAStuckPartitionGrows(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	p := b.producer(t, func(c *ProducerConfig) { c.Compression = "none" })
	fill := func() {
		for range 20 {
			require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte(strings.Repeat("x", 1000))}}))
		}
	}
	fill()
	s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.FetchAheadBytes = 1024; c.MaxBatchRecords = 1 })
	held := receive(t, subscribe(t, s, topic))
	eventually(t, "fetching has stopped", func() bool { return s.State().Buffered >= 1024 })
	fill()
	eventually(t, "the end is known all the same", func() bool { return s.Lags()[0].End == 40 })
	require.EqualValues(t, 40, s.Lags()[0].Lag())
	held.Nack()
}

// A member without partitions shows that it has none.
func TestTrap08NoPartitionsShow(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		one, two := b.subscriber(t, group), b.subscriber(t, group)
		subscribe(t, one, topic)
		eventually(t, "the first has it", func() bool { return one.State().Assigned == 1 })
		subscribe(t, two, topic)
		eventually(t, "one of two has it", func() bool {
			return one.Stats().Generations >= 2 && two.Stats().Generations >= 1 && one.State().Assigned+two.State().Assigned == 1
		})
		require.Equal(t, 1, two.State().Subscriptions)
	})
}
