package kafkago

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
)

// creating makes topics on demand, as the suite expects of a Pub/Sub.
type creating struct {
	b          *broker
	t          testing.TB
	partitions int
}

func (c creating) create(topic string) error {
	return kafkatest.CreateTopic(c.t.Context(), c.b.addrs, kafkatest.Topic{Name: topic, Partitions: c.partitions})
}

type creatingPublisher struct {
	*Publisher
	creating
}

func (p creatingPublisher) Publish(topic string, messages ...*message.Message) error {
	if err := p.create(topic); err != nil {
		return err
	}
	return p.Publisher.Publish(topic, messages...)
}

type creatingSubscriber struct {
	*Subscriber
	creating
}

func (s creatingSubscriber) SubscribeInitialize(topic string) error { return s.create(topic) }

// plain returns a Publisher and a Subscriber that know nothing of batches.
func (c creating) plain(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	c.t = t
	publisher := NewPublisher(c.b.producer(t, func(cfg *ProducerConfig) { cfg.Compression = "lz4" }))
	s := c.b.subscriber(t, group, func(cfg *SubscriberConfig) { cfg.PlainMessages = true; cfg.DrainTimeout = time.Second })
	return creatingPublisher{publisher, c}, creatingSubscriber{s, c}
}

// plainAlone is plain in a group of the test's own. The suite's tests run side by
// side: in one group they would rebalance each other.
func (c creating) plainAlone(t *testing.T) (message.Publisher, message.Subscriber) {
	return c.plain(t, "suite-"+notInTopics.ReplaceAllString(t.Name(), "-"))
}

// Watermill's own suite for Pub/Subs, in plain mode.
func TestWatermillConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	onBrokers(t, func(t *testing.T, b *broker) {
		c := creating{b: b, partitions: 4}
		tests.TestPubSub(t, tests.Features{
			ConsumerGroups:                   true,
			GuaranteedOrder:                  false, // per key only, and the suite sends none
			Persistent:                       true,
			NewSubscriberReceivesOldMessages: false, // not within a group
			ForceShort:                       true,  // fewer messages, the same properties
		}, c.plainAlone, c.plain)
	})
}

// With one partition there is one order.
func TestWatermillConformanceInOrder(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		c := creating{b: b, partitions: 1}
		features := tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true, ForceShort: true}
		for name, test := range map[string]func(*testing.T, tests.TestContext, tests.PubSubConstructor){
			"in order": tests.TestPublishSubscribeInOrder,
			"no ack":   tests.TestNoAck,
		} {
			t.Run(name, func(t *testing.T) {
				test(t, tests.TestContext{TestID: tests.NewTestID(), Features: features}, c.plainAlone)
			})
		}
	})
}

// Traps 1, 3, 13, 14, 16 and 17 are those of Reader and Writer, 24 that of producer
// ids: they are not used.
func TestTrapsOfReaderAndWriter(t *testing.T) {
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		seen++
		source, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), source, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, name := range []string{"kafka.Reader", "kafka.NewReader", "kafka.Writer", "kafka.NewWriter", "kafka.DefaultTransport", "RequireOne", "RequireNone",
			"InitProducerID", "AddPartitionsToTxn", "EndTxn"} {
			require.NotContains(t, string(source[file.Name.End()-1:]), name, f.Name())
		}
	}
	require.Greater(t, seen, 10)
}
