package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(memberEnv); spec != "" {
		if err := runMember(spec); err != nil {
			fmt.Println("failed:", err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long tests wait for what must happen.
const patience = 30 * time.Second

// broker is the cluster a test runs against.
type broker struct {
	addrs []string
	fake  *kafkatest.Cluster // nil: a real Kafka
}

// onBrokers runs the test on an in-process broker, and on a real Kafka where
// there is one.
func onBrokers(t *testing.T, test func(t *testing.T, b *broker)) {
	t.Run("kfake", func(t *testing.T) {
		c := kafkatest.Fake(t, nil)
		test(t, &broker{addrs: c.Addrs(), fake: c})
	})
	t.Run("kafka", func(t *testing.T) {
		test(t, &broker{addrs: kafkatest.Real(t)})
	})
}

func (b *broker) connection() Connection { return Connection{Brokers: b.addrs} }

var (
	names       atomic.Int64
	notInTopics = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// name returns a name for a topic or group that nothing else uses.
func (b *broker) name(t testing.TB, kind string) string {
	test := notInTopics.ReplaceAllString(t.Name(), "-")
	return fmt.Sprintf("%s-%s-%d-%d", kind, test, time.Now().UnixNano(), names.Add(1))
}

func (b *broker) topic(t testing.TB, partitions int, config ...string) string {
	t.Helper()
	name := b.name(t, "topic")
	require.NoError(t, kafkatest.CreateTopic(t.Context(), b.addrs, kafkatest.Topic{Name: name, Partitions: partitions}, config...))
	return name
}

func (b *broker) producer(t testing.TB, change ...func(*ProducerConfig)) *Producer {
	t.Helper()
	cfg := ProducerConfig{Connection: b.connection(), Logger: testLogger(t)}
	for _, c := range change {
		c(&cfg)
	}
	p, err := NewProducer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// subscriber is quick in everything that takes its time in production.
func (b *broker) subscriber(t testing.TB, group string, change ...func(*SubscriberConfig)) *Subscriber {
	t.Helper()
	cfg := SubscriberConfig{
		Connection: b.connection(), Group: group, Logger: testLogger(t),
		MaxWait: 100 * time.Millisecond, CommitInterval: 10 * time.Millisecond, NackBackoff: 5 * time.Millisecond,
		HeartbeatInterval: 50 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second,
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := NewSubscriber(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func testLogger(t testing.TB) *slog.Logger {
	level := slog.LevelError
	if os.Getenv("SORTITION_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
}

// seed writes n records with values "0".."n-1"; the key is the value modulo keys.
func (b *broker) seed(t testing.TB, topic string, n, keys int) {
	t.Helper()
	p := b.producer(t)
	var out []pipeline.Output
	for i := range n {
		out = append(out, pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%keys), Value: fmt.Append(nil, i)})
	}
	require.NoError(t, p.Produce(t.Context(), out))
}

// receive waits for the next message.
func receive(t testing.TB, c <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-c:
		require.True(t, ok, "the channel was closed")
		return m
	case <-time.After(patience):
		require.FailNow(t, "no message came")
		return nil
	}
}

func batchOf(t testing.TB, m *message.Message) *pipeline.Batch {
	t.Helper()
	b, ok := pipeline.BatchOf(m)
	require.True(t, ok, "the message carries no batch")
	return b
}

// committed returns the group's offset for partition 0.., -1 where it has none.
func (b *broker) committed(t testing.TB, group, topic string, partitions int) []int64 {
	t.Helper()
	transport := &kafka.Transport{MetadataTopics: []string{topic}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Timeout: 10 * time.Second, Transport: transport}
	var ask []int
	for p := range partitions {
		ask = append(ask, p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: ask}})
	require.NoError(t, err)
	out := make([]int64, partitions)
	if errors.Is(res.Error, kafka.GroupIdNotFound) { // nobody has joined yet
		for p := range out {
			out[p] = -1
		}
		return out
	}
	require.NoError(t, res.Error)
	for _, p := range res.Topics[topic] {
		require.NoError(t, p.Error)
		out[p.Partition] = p.CommittedOffset
	}
	return out
}

// fakeBroker is for tests that need to tamper with the broker.
func fakeBroker(t testing.TB, options ...kfake.Opt) *broker {
	t.Helper()
	c := kafkatest.Fake(t, nil, options...)
	return &broker{addrs: c.Addrs(), fake: c}
}
