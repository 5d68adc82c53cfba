package kafkago

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/pipeline"
)

// readAll reads n records of topic with a foreign client, in offset order per
// partition.
func (b *broker) readAll(t testing.TB, topic string, n int) map[int32][]*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	read := map[int32][]*kgo.Record{}
	for seen := 0; seen < n; {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "read %d of %d records", seen, n)
		fetches.EachRecord(func(r *kgo.Record) {
			read[r.Partition] = append(read[r.Partition], r)
			seen++
		})
	}
	return read
}

func TestProduceKeepsOrderKeysHeadersAndTimes(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 3000, 5
		topic := b.topic(t, partitions)
		at := time.UnixMilli(1_790_000_000_123).UTC()
		outputs := []pipeline.Output{
			{Topic: topic, Key: []byte{}, Value: []byte("empty key")},
			{Topic: topic, Key: []byte("k"), Value: nil, Time: at},
			{Topic: topic, Key: []byte("k"), Value: []byte{}, Headers: []pipeline.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "b", Value: []byte{}}}},
		}
		for i := range n {
			outputs = append(outputs, pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "user-%d", i%50), Value: fmt.Append(nil, i)})
		}
		p := b.producer(t, func(c *ProducerConfig) { c.MaxRequestBytes = 4000 })
		require.NoError(t, p.Produce(t.Context(), outputs))
		require.EqualValues(t, len(outputs), p.Stats().Records)
		require.Greater(t, p.Stats().Requests, uint64(20), "requests are bounded in size")

		i := map[int32]int{}
		read := b.readAll(t, topic, len(outputs))
		for _, o := range outputs {
			partition := int32(keyPartition(o.Key, partitions))
			r := read[partition][i[partition]]
			i[partition]++
			require.Equal(t, o.Key, r.Key)
			require.Equal(t, o.Value, r.Value)
			require.Len(t, r.Headers, len(o.Headers))
			for h := range o.Headers {
				require.Equal(t, o.Headers[h].Key, r.Headers[h].Key)
				require.Equal(t, o.Headers[h].Value, r.Headers[h].Value)
			}
			if !o.Time.IsZero() {
				require.True(t, o.Time.Equal(r.Timestamp))
			} else {
				require.WithinDuration(t, time.Now(), r.Timestamp, time.Hour)
			}
		}
	})
}

func TestOutputsWithoutKeySpreadByCall(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic := b.topic(t, 3)
		p := b.producer(t, func(c *ProducerConfig) { c.Topics = []string{topic} })
		for call := range 6 {
			var outputs []pipeline.Output
			for i := range 10 {
				outputs = append(outputs, pipeline.Output{Topic: topic, Value: fmt.Appendf(nil, "%d-%d", call, i)})
			}
			require.NoError(t, p.Produce(t.Context(), outputs))
		}
		read := b.readAll(t, topic, 60)
		for partition := range int32(3) {
			require.Len(t, read[partition], 20)
			require.Nil(t, read[partition][0].Key)
		}
	})
}

func TestEveryCompression(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			t.Run(codec, func(t *testing.T) {
				topic := b.topic(t, 1)
				p := b.producer(t, func(c *ProducerConfig) { c.Compression = codec })
				var outputs []pipeline.Output
				for i := range 500 {
					outputs = append(outputs, pipeline.Output{Topic: topic, Value: bytes.Repeat(fmt.Appendf(nil, "%d ", i), 100)})
				}
				require.NoError(t, p.Produce(t.Context(), outputs))
				for i, r := range b.readAll(t, topic, 500)[0] {
					require.Equal(t, outputs[i].Value, r.Value)
				}
				s := b.subscriber(t, b.name(t, "group"))
				messages, err := s.Subscribe(t.Context(), topic)
				require.NoError(t, err)
				for seen := 0; seen < 500; {
					m := receive(t, messages)
					for _, r := range batchOf(t, m).Records {
						require.Equal(t, outputs[seen].Value, r.Value)
						seen++
					}
					m.Ack()
				}
			})
		}
	})
}

// Trap 13: the zero value of kafka-go's acks means none. And the broker must get
// more time than kafka-go's default of half a second to collect them.
func TestTrap13AcksAll(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 2)
	var requests atomic.Int32
	b.fake.Kfake().ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		r := req.(*kmsg.ProduceRequest)
		requests.Add(1)
		if r.Acks != -1 || r.TimeoutMillis < 5000 {
			t.Errorf("acks %d, timeout %d ms", r.Acks, r.TimeoutMillis)
		}
		return nil, nil, false
	})
	p := b.producer(t)
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}}))
	require.Positive(t, requests.Load())
	require.Equal(t, kafka.RequireAll, acks)
}

// Trap 14: kafka-go's Writer holds every call back for its linger of a second.
func TestTrap14NoLinger(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	p := b.producer(t)
	began := time.Now()
	for range 100 {
		require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}}))
	}
	require.Less(t, time.Since(began), 20*time.Second)
}

// Trap 18: a moved leader, a missing one and a lost connection are all repeated.
func TestTrap18TransientFailuresAreRepeated(t *testing.T) {
	for name, answer := range map[string]func(*kmsg.ProduceRequest) (kmsg.Response, error){
		"not leader":        produceAnswer(kerr.NotLeaderForPartition),
		"no leader":         produceAnswer(kerr.LeaderNotAvailable),
		"not enough copies": produceAnswer(kerr.NotEnoughReplicas),
		"connection lost":   func(*kmsg.ProduceRequest) (kmsg.Response, error) { return nil, errors.New("hang up") },
	} {
		t.Run(name, func(t *testing.T) {
			b := fakeBroker(t)
			topic := b.topic(t, 1)
			var failures atomic.Int32
			b.fake.Kfake().ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				b.fake.Kfake().KeepControl()
				if failures.Add(1) > 3 {
					return nil, nil, false
				}
				res, err := answer(req.(*kmsg.ProduceRequest))
				return res, err, true
			})
			p := b.producer(t, func(c *ProducerConfig) { c.RetryBackoff = time.Millisecond })
			require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}}))
			require.EqualValues(t, 3, p.Stats().Retries)
			require.Len(t, b.readAll(t, topic, 1)[0], 1)
		})
	}
}

func produceAnswer(code *kerr.Error) func(*kmsg.ProduceRequest) (kmsg.Response, error) {
	return func(req *kmsg.ProduceRequest) (kmsg.Response, error) {
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic = rt.Topic
			t.TopicID = rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition = rp.Partition
				p.ErrorCode = code.Code
				t.Partitions = append(t.Partitions, p)
			}
			res.Topics = append(res.Topics, t)
		}
		return res, nil
	}
}

func TestClassify(t *testing.T) {
	for err, want := range map[error]class{
		kafka.MessageSizeTooLarge:                     classRefused,
		kafka.RecordListTooLarge:                      classRefused,
		kafka.InvalidRecord:                           classRefused,
		kafka.TopicAuthorizationFailed:                classFatal,
		kafka.SASLAuthenticationFailed:                classFatal,
		kafka.NotLeaderForPartition:                   classTransient,
		kafka.BrokerNotAvailable:                      classTransient,
		kafka.NotEnoughReplicas:                       classTransient,
		io.ErrUnexpectedEOF:                           classTransient,
		context.DeadlineExceeded:                      classTransient,
		fmt.Errorf("wrapped: %w", kafka.InvalidTopic): classFatal,
	} {
		require.Equal(t, want, classify(err), err.Error())
	}
}

// A record that is too large is named, for good; its neighbours are stored.
func TestTooLargeRecordIsRefusedAlone(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic := b.topic(t, 1, "max.message.bytes", "20000")
		noise := rand.NewChaCha8([32]byte{1})
		outputs := make([]pipeline.Output, 41)
		for i := range outputs {
			size := 1500 // together more than the broker takes in one batch
			if i == 17 || i == 40 {
				size = 30_000
			}
			value := make([]byte, size)
			_, _ = noise.Read(value)
			outputs[i] = pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "k%d", i), Value: value}
		}
		p := b.producer(t)
		err := p.Produce(t.Context(), outputs)
		var failed *pipeline.ProduceError
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, kafka.MessageSizeTooLarge)
		require.Len(t, failed.Failed, 2)
		require.Equal(t, 17, failed.Failed[0].Index)
		require.Equal(t, 40, failed.Failed[1].Index)
		require.True(t, failed.Permanent())
		require.EqualValues(t, 2, p.Stats().Refused)

		read := b.readAll(t, topic, 39)[0]
		for i, at := 0, 0; i < len(outputs); i++ {
			if i == 17 || i == 40 {
				continue
			}
			require.Equal(t, outputs[i].Key, read[at].Key, "order is kept")
			at++
		}
	})
}

// Trap 15: a cancelled call says which outputs it does not know about, and does
// not go on behind its caller's back.
func TestTrap15CancelledProduceIsAnError(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 2)
	p := b.producer(t)
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("warm up")}}))
	hold := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(hold) }) }
	t.Cleanup(release)
	ctx, cancel := context.WithCancel(t.Context())
	b.fake.Kfake().ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		cancel()
		<-hold // the whole broker hangs; SleepControl can leave a goroutine behind when it closes
		return nil, nil, false
	})
	outputs := []pipeline.Output{{Topic: topic, Key: []byte("a"), Value: []byte("1")}, {Topic: topic, Key: []byte("a"), Value: []byte("2")}}
	err := p.Produce(ctx, outputs)
	var failed *pipeline.ProduceError
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, failed.Failed, 2)
	require.False(t, failed.Permanent())
	require.EqualValues(t, 2, p.Stats().Abandoned)
	release()
}

func TestProduceGivesUpInBoundedTime(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	b.fake.Kfake().ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		res, err := produceAnswer(kerr.NotEnoughReplicas)(req.(*kmsg.ProduceRequest))
		return res, err, true
	})
	p := b.producer(t, func(c *ProducerConfig) { c.RetryTimeout = 200 * time.Millisecond; c.MaxRequestBytes = 1000 })
	outputs := make([]pipeline.Output, 100) // several requests: the later ones are not sent
	for i := range outputs {
		outputs[i] = pipeline.Output{Topic: topic, Value: make([]byte, 100)}
	}
	began := time.Now()
	err := p.Produce(t.Context(), outputs)
	require.Less(t, time.Since(began), 5*time.Second)
	var failed *pipeline.ProduceError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Failed, len(outputs))
	require.ErrorIs(t, err, kafka.NotEnoughReplicas)
	require.False(t, failed.Permanent())
}

// Trap 19: metadata is asked for the topics in use, not for the whole cluster.
func TestTrap19MetadataOfOwnTopicsOnly(t *testing.T) {
	b := fakeBroker(t)
	topic, other := b.topic(t, 1), b.topic(t, 1)
	var asked sync.Map
	b.fake.Kfake().ControlKey(kmsg.Metadata.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		topics := req.(*kmsg.MetadataRequest).Topics
		if topics == nil {
			t.Error("metadata of all topics asked for")
		}
		for _, rt := range topics {
			asked.Store(*rt.Topic, true)
		}
		return nil, nil, false
	})
	p := b.producer(t, func(c *ProducerConfig) { c.Topics = []string{topic} })
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("v")}}))
	_, ok := asked.Load(topic)
	require.True(t, ok)
	_, ok = asked.Load(other)
	require.False(t, ok)
	// A topic nobody announced works as well.
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: other, Value: []byte("v")}, {Topic: topic, Value: []byte("v")}}))
}

func TestProduceToMissingTopic(t *testing.T) {
	b := fakeBroker(t)
	p := b.producer(t, func(c *ProducerConfig) { c.RetryTimeout = 200 * time.Millisecond })
	err := p.Produce(t.Context(), []pipeline.Output{{Topic: "nowhere", Value: []byte("v")}})
	var failed *pipeline.ProduceError
	require.ErrorAs(t, err, &failed)
	var missing *TopicMissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "nowhere", missing.Topic)
	require.False(t, failed.Permanent(), "the topic may be made any time")
}

func TestProducerConfigReportsAllFaults(t *testing.T) {
	_, err := NewProducer(ProducerConfig{Compression: "brotli", MaxRequestBytes: 10, Connection: Connection{Brokers: []string{"nohost"}}})
	require.ErrorContains(t, err, `unknown compression "brotli"`)
	require.ErrorContains(t, err, "MaxRequestBytes 10")
	require.ErrorContains(t, err, `broker address "nohost"`)
}

func TestClosedProducer(t *testing.T) {
	b := fakeBroker(t)
	p := b.producer(t)
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Produce(t.Context(), []pipeline.Output{{Topic: "t"}}), ErrClosed)
	require.NoError(t, p.Produce(t.Context(), nil))
}
