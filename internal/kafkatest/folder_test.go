package kafkatest

import (
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
)

// A cluster in a folder goes on where the one before has ended, and shares the folder
// with nobody.
func TestStartInGoesOn(t *testing.T) {
	dir := t.TempDir()
	topics := []Topic{{Name: "in", Partitions: 2}}
	for round := range 3 {
		c, err := StartIn(dir, topics)
		require.NoError(t, err)
		_, err = StartIn(dir, topics)
		require.ErrorContains(t, err, "in use by another process")

		transport := &kafka.Transport{}
		client := &kafka.Client{Addr: kafka.TCP(c.Addrs()...), Transport: transport, Timeout: 10 * time.Second}
		ends, err := client.ListOffsets(t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{"in": {kafka.LastOffsetOf(0), kafka.LastOffsetOf(1)}}})
		require.NoError(t, err)
		require.Len(t, ends.Topics["in"], 2)
		for _, p := range ends.Topics["in"] {
			want := int64(0)
			if p.Partition == 1 {
				want = int64(round)
			}
			require.Equal(t, want, p.LastOffset)
		}
		offsets, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{"in": {1}}})
		require.NoError(t, err)
		if round > 0 {
			require.Equal(t, int64(round), offsets.Topics["in"][0].CommittedOffset)
		}
		stored, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: "in", Partition: 1, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("v"))}),
		})
		require.NoError(t, err)
		require.NoError(t, stored.Error)
		committed, err := client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
			GroupID: "g", GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{"in": {{Partition: 1, Offset: int64(round + 1)}}},
		})
		require.NoError(t, err)
		require.NoError(t, committed.Topics["in"][0].Error)
		transport.CloseIdleConnections()
		c.Close()
	}
}
