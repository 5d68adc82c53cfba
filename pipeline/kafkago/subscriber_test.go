package kafkago

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBatchesComeInOrderPerPartition(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 5000, 4
		topic, group := b.topic(t, partitions), b.name(t, "group")
		b.seed(t, topic, n, 97)
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 100 })
		messages, err := s.Subscribe(t.Context(), topic)
		require.NoError(t, err)

		next := map[int32]int64{}
		last := map[string]int{}
		for seen := 0; seen < n; {
			m := receive(t, messages)
			batch := batchOf(t, m)
			require.NotEmpty(t, batch.Records)
			require.LessOrEqual(t, len(batch.Records), 100)
			for _, r := range batch.Records {
				require.Equal(t, next[batch.Partition], r.Offset)
				next[batch.Partition]++
				value, err := strconv.Atoi(string(r.Value))
				require.NoError(t, err)
				if before, ok := last[string(r.Key)]; ok {
					require.Less(t, before, value, "records of a key keep their order")
				}
				last[string(r.Key)] = value
				require.Equal(t, keyPartition(r.Key, partitions), int(batch.Partition))
			}
			seen += len(batch.Records)
			m.Ack()
		}
		require.Len(t, next, partitions)
		require.NoError(t, s.Close())
		for p, at := range b.committed(t, group, topic, partitions) {
			require.Equal(t, next[int32(p)], at)
		}
		require.EqualValues(t, n, s.Stats().Records)
	})
}
