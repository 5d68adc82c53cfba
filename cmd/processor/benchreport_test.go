package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
)

func TestFlagCounts(t *testing.T) {
	assert.Equal(t, []int{1, 10, 60}, flagCounts([]int{60, 1, 10, 1}, 60))
	assert.Equal(t, []int{1, 7}, flagCounts([]int{1, 10, 60}, 7), "no more than there are, and once")
}

func TestMedian(t *testing.T) {
	assert.InDelta(t, 3, median([]float64{9, 1, 3}), 0)
	assert.InDelta(t, 2.5, median([]float64{3, 1, 2, 4}), 0)
	assert.Zero(t, median(nil))
}

// A ratio is made within each round: when a machine is half as fast in one of them,
// both sides are.
func TestRatioIsMadeByRound(t *testing.T) {
	ours, loop := &rowReport{Rates: []float64{50, 25, 60}}, &rowReport{Rates: []float64{100, 50, 100}}
	assert.InDelta(t, 0.5, ours.ratio(loop), 0)
}

// newTestBench is a filled topic on an in-process broker.
func newTestBench(t *testing.T, activities int) *bench {
	t.Helper()
	project, err := decision.Compile(sample.Datafile(benchSeed, 12))
	require.NoError(t, err)
	b := &bench{
		benchCmd: &benchCmd{Activities: activities, Partitions: 3, Codec: "zstd", Flags: []int{4}, Rounds: 1, Rate: 100},
		project:  project, snapshot: pipeline.NewSnapshot(project), progress: &benchProgress{}, readyMade: map[int]*readyMade{},
	}
	b.broker, err = openBenchBroker(nil, 3)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.broker.close(context.Background())) })
	require.NoError(t, b.fill(t.Context()))
	return b
}

// topicOf returns what a topic holds, by partition and offset.
func topicOf(t *testing.T, b *bench, topic string) map[string]*kafkatest.Record {
	t.Helper()
	r := kafkatest.NewReader(b.broker.addrs)
	defer r.Close()
	all := make([]map[string]*kafkatest.Record, b.Partitions) // partitions are read side by side
	for p := range all {
		all[p] = map[string]*kafkatest.Record{}
	}
	require.NoError(t, r.Each(t.Context(), topic, func(r *kafkatest.Record) error {
		all[r.Partition][fmt.Sprintf("%d/%d", r.Partition, r.Offset)] = r
		return nil
	}))
	merged := map[string]*kafkatest.Record{}
	for _, part := range all {
		maps.Copy(merged, part)
	}
	return merged
}

// The loop that copies does what it says: the same records at the same places.
func TestCopyLoopCopies(t *testing.T) {
	b := newTestBench(t, 9000)
	c, err := b.openLoop(t.Context(), b.ends, nil)
	require.NoError(t, err)
	require.NoError(t, c.run(t.Context()))
	assert.Equal(t, 9000, c.progress())
	want, got := topicOf(t, b, b.activities), topicOf(t, b, c.close()[0])
	require.Len(t, got, 9000)
	for place, w := range want {
		require.Equal(t, string(w.Key)+string(w.Value), string(got[place].Key)+string(got[place].Value), place)
	}
}

// What the I/O-equal loop writes is of the size and the kind of what the pipeline
// writes of the same activities: the yardstick is not made shorter.
func TestIOLoopWritesWhatThePipelineWrites(t *testing.T) {
	b := newTestBench(t, 4096)
	l, err := b.openLoop(t.Context(), b.ends, b.ready(4).records)
	require.NoError(t, err)
	require.NoError(t, l.run(t.Context()))
	s, err := b.openStream(t.Context(), 4, false)
	require.NoError(t, err)
	_, err = timed(t.Context(), s, 4096)
	require.NoError(t, err)

	size := func(c contender) (records, bytes, headers int) {
		for _, r := range topicOf(t, b, c.close()[0]) {
			records++
			bytes += len(r.Key) + len(r.Value)
			headers += len(r.Headers)
		}
		return records, bytes, headers
	}
	records, bytes, headers := size(l)
	wantRecords, wantBytes, wantHeaders := size(s)
	assert.Equal(t, wantRecords, records)
	assert.Equal(t, wantHeaders, headers)
	assert.InEpsilon(t, wantBytes, bytes, 0.02)
	assert.InEpsilon(t, float64(bytes)/float64(records), b.ready(4).bytes, 0.02)
}

// On somebody's broker nothing is left behind, also when the run is interrupted.
func TestBenchLeavesNothingBehind(t *testing.T) {
	broker := kafkatest.Fake(t, []kafkatest.Topic{{Name: "theirs", Partitions: 1}})
	ctx, stop := context.WithCancel(t.Context())
	c := &benchCmd{Brokers: broker.Addrs(), Activities: 50_000, Partitions: 2, Codec: "lz4", Flags: []int{2}, Rounds: 100, Rate: 100, For: time.Second}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()
	std := stdio{null, null, null}
	ended := make(chan error, 1) // capacity 1: written once
	go func() { ended <- c.Run(ctx, std) }()
	names := func() (topics []string) {
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		client := &kafka.Client{Addr: kafka.TCP(broker.Addrs()...), Transport: transport, Timeout: 10 * time.Second}
		meta, err := client.Metadata(context.Background(), &kafka.MetadataRequest{})
		require.NoError(t, err)
		for _, topic := range meta.Topics {
			topics = append(topics, topic.Name)
		}
		return topics
	}
	require.Eventually(t, func() bool { return len(names()) > 4 }, time.Minute, 10*time.Millisecond, "a stream is at work")
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Equal(t, []string{"theirs"}, names())
}
