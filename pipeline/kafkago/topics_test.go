package kafkago

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
)

// settings returns a topic's settings as the broker tells them.
func (b *broker) settings(t *testing.T, topic string) map[string]string {
	t.Helper()
	transport := &kafka.Transport{MetadataTopics: []string{topic}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Timeout: 10 * time.Second, Transport: transport}
	res, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}}})
	require.NoError(t, err)
	settings := map[string]string{}
	for _, r := range res.Resources {
		require.NoError(t, r.Error)
		for _, e := range r.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	return settings
}

func TestEnsureTopicsCreatesWhatIsMissing(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		there := b.topic(t, 2, "retention.ms", "12345")
		kept, compacted, both, forever, plain := b.name(t, "kept"), b.name(t, "compacted"), b.name(t, "both"), b.name(t, "forever"), b.name(t, "plain")
		specs := []TopicSpec{
			{Name: there, Partitions: 6, Retention: time.Hour, Compact: true},
			{Name: kept, Partitions: 3, ReplicationFactor: 1, Retention: 36 * time.Hour},
			{Name: compacted, Partitions: 1, Compact: true},
			{Name: both, Partitions: 1, Compact: true, Retention: time.Minute, Config: map[string]string{"max.message.bytes": "2000000"}},
			{Name: forever, Partitions: 1, Retention: -1},
			{Name: plain},
		}
		var log bytes.Buffer
		said := slog.New(slog.NewTextHandler(&log, nil))
		found, err := b.connection().EnsureTopics(t.Context(), specs, patience, said)
		require.NoError(t, err)
		require.Len(t, found, len(specs))
		require.Equal(t, EnsuredTopic{Name: there, Partitions: 2, Wanted: 6}, found[0])
		require.True(t, found[0].Differs())
		require.Equal(t, EnsuredTopic{Name: kept, Created: true, Partitions: 3, Wanted: 3}, found[1])
		require.False(t, found[1].Differs())
		require.True(t, found[5].Created)
		require.Positive(t, found[5].Partitions)
		require.Contains(t, log.String(), "another number of partitions")
		require.Contains(t, log.String(), "topic created")

		require.Equal(t, "12345", b.settings(t, there)["retention.ms"], "what exists is not altered")
		require.Equal(t, "129600000", b.settings(t, kept)["retention.ms"])
		require.Equal(t, "compact", b.settings(t, compacted)["cleanup.policy"])
		require.Equal(t, "compact,delete", b.settings(t, both)["cleanup.policy"])
		require.Equal(t, "60000", b.settings(t, both)["retention.ms"])
		require.Equal(t, "2000000", b.settings(t, both)["max.message.bytes"])
		require.Equal(t, "-1", b.settings(t, forever)["retention.ms"])

		again, err := b.connection().EnsureTopics(t.Context(), specs, patience, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		for i := range again {
			require.False(t, again[i].Created)
			require.Equal(t, found[i].Partitions, again[i].Partitions)
		}
		b.seed(t, kept, 10, 10) // and it can be used
	})
}

// Processes that start together create a topic once.
func TestEnsureTopicsTogether(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		name := b.name(t, "shared")
		var mu sync.Mutex
		created := 0
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				found, err := b.connection().EnsureTopics(context.WithoutCancel(t.Context()), []TopicSpec{{Name: name, Partitions: 3}}, patience, slog.New(slog.DiscardHandler))
				mu.Lock()
				defer mu.Unlock()
				if err != nil || found[0].Partitions != 3 {
					t.Errorf("found %v, error %v", found, err)
					return
				}
				if found[0].Created {
					created++
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, created)
	})
}

func TestEnsureTopicsSaysWhyNot(t *testing.T) {
	silent := slog.New(slog.DiscardHandler)
	t.Run("kafka", func(t *testing.T) {
		b := &broker{addrs: kafkatest.Real(t)}
		began := time.Now()
		_, err := b.connection().EnsureTopics(t.Context(), []TopicSpec{{Name: b.name(t, "bad"), Config: map[string]string{"no.such.setting": "1"}}}, patience, silent)
		require.ErrorIs(t, err, kafka.InvalidConfiguration)
		require.ErrorContains(t, err, "no.such.setting")
		require.Less(t, time.Since(began), patience/2, "no use in repeating")
		// Brokers may be about to start, so this one is repeated.
		_, err = b.connection().EnsureTopics(t.Context(), []TopicSpec{{Name: b.name(t, "bad"), ReplicationFactor: 3}}, 2*time.Second, silent)
		require.ErrorIs(t, err, kafka.InvalidReplicationFactor)
		require.ErrorContains(t, err, "tried for 2s")
	})
	for want, specs := range map[string][]TopicSpec{
		`topic "" with 0 partitions`:   {{}},
		`topic "a" with -1 partitions`: {{Name: "a", Partitions: -1}},
		`topic "a" is asked for twice`: {{Name: "a"}, {Name: "a"}},
	} {
		_, err := Connection{Brokers: []string{"127.0.0.1:1"}}.EnsureTopics(t.Context(), specs, time.Second, silent)
		require.ErrorContains(t, err, want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	_, err = Connection{Brokers: []string{address}}.EnsureTopics(t.Context(), []TopicSpec{{Name: "a"}}, 300*time.Millisecond, silent)
	require.ErrorContains(t, err, "refused")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Connection{Brokers: []string{address}}.EnsureTopics(ctx, []TopicSpec{{Name: "a"}}, patience, silent)
	require.ErrorIs(t, err, context.Canceled)
}
