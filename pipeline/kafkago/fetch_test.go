package kafkago

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// collect acks messages until n records have come, and returns their values.
func collect(t testing.TB, messages <-chan *message.Message, n int) []string {
	t.Helper()
	var values []string
	for len(values) < n {
		m := receive(t, messages)
		for _, r := range batchOf(t, m).Records {
			values = append(values, string(r.Value))
		}
		m.Ack()
	}
	return values
}

func (b *broker) kgo(t testing.TB, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// Trap 11: kafka-go hands out aborted records, and markers as messages.
func TestTrap11ReadCommitted(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		var want []string
		plain := b.kgo(t)
		one := b.kgo(t, kgo.TransactionalID(b.name(t, "one")))
		two := b.kgo(t, kgo.TransactionalID(b.name(t, "two")))
		send := func(c *kgo.Client, value string) {
			require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr())
		}
		end := func(c *kgo.Client, commit kgo.TransactionEndTry) {
			require.NoError(t, c.EndTransaction(t.Context(), commit))
		}
		total := 0
		for round := range 20 {
			// Two transactions and a plain producer, interleaved.
			require.NoError(t, one.BeginTransaction())
			require.NoError(t, two.BeginTransaction())
			for i := range 3 {
				for _, c := range []struct {
					name   string
					client *kgo.Client
					kept   bool
				}{{"one", one, round%2 == 0}, {"two", two, round%3 == 0}, {"plain", plain, true}} {
					value := fmt.Sprintf("%s-%d-%d", c.name, round, i)
					send(c.client, value)
					total++
					if c.kept {
						want = append(want, value)
					}
				}
			}
			end(one, kgo.TransactionEndTry(round%2 == 0))
			end(two, kgo.TransactionEndTry(round%3 == 0))
		}
		// A small fetch makes transactions straddle answers.
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.FetchAheadBytes = 1024; c.MaxBatchRecords = 7 })
		require.Equal(t, want, collect(t, subscribe(t, s, topic), len(want)))
		// The markers at the end are passed as well.
		eventually(t, "everything is committed", func() bool { return b.committed(t, group, topic, 1)[0] == int64(total+40) })
		require.EqualValues(t, 40, s.Stats().Markers)
		require.EqualValues(t, total-len(want), s.Stats().Aborted)
	})
}

// An open transaction holds readers back at the last stable offset.
func TestOpenTransactionIsNotHandedOut(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic := b.topic(t, 1)
		tx := b.kgo(t, kgo.TransactionalID(b.name(t, "tx")))
		require.NoError(t, tx.BeginTransaction())
		require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("pending")}).FirstErr())
		s := b.subscriber(t, b.name(t, "group"))
		messages := subscribe(t, s, topic)
		select {
		case m := <-messages:
			require.FailNow(t, "an uncommitted record was handed out: "+m.UUID)
		case <-time.After(200 * time.Millisecond):
		}
		require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
		require.Equal(t, []string{"pending"}, collect(t, messages, 1))
	})
}

// Trap 8: kafka-go joins a group for a missing topic and idles for good.
func TestTrap08MissingTopic(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.TopicTimeout = 150 * time.Millisecond })
		_, err := s.Subscribe(t.Context(), "no-such-topic")
		var missing *TopicMissingError
		require.ErrorAs(t, err, &missing)
		require.ErrorContains(t, err, `topic "no-such-topic" does not exist`)

		patient := b.subscriber(t, b.name(t, "group"))
		topic := b.name(t, "late")
		created := make(chan error, 1)
		go func() {
			created <- kafkatest.CreateTopic(context.Background(), b.addrs, kafkatest.Topic{Name: topic, Partitions: 1})
		}()
		messages := subscribe(t, patient, topic)
		require.NoError(t, <-created)
		b.seed(t, topic, 1, 1)
		require.Len(t, collect(t, messages, 1), 1)
	})
}

// Trap 8, later: kafka-go joins again and again, without a pause, when its topic
// has been deleted.
func TestTrap08DeletedTopicIsNoBusyLoop(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	b.seed(t, topic, 5, 1)
	s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.Logger = nil })
	collect(t, subscribe(t, s, topic), 5)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10_000
	req.TopicNames = []string{topic}
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	_, err := req.RequestWith(t.Context(), b.kgo(t))
	require.NoError(t, err)
	joined := s.Stats().Generations
	eventually(t, "the deletion is noticed", func() bool { return s.Stats().Generations > joined })
	joined = s.Stats().Generations
	time.Sleep(500 * time.Millisecond)
	require.LessOrEqual(t, s.Stats().Generations-joined, uint64(2))
	require.NoError(t, s.Close())
}

func TestSubscribeIsCancelled(t *testing.T) {
	b := fakeBroker(t)
	s := b.subscriber(t, "g")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Subscribe(ctx, "no-such-topic")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
	_, err = s.Subscribe(t.Context(), "no-such-topic")
	require.ErrorIs(t, err, ErrClosed)
}

// moveLogStart deletes the records before offset.
func (b *broker) moveLogStart(t testing.TB, topic string, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	res, err := req.RequestWith(t.Context(), b.kgo(t))
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode))
}

// Trap 9: an offset outside the log is skipped silently, or waited for.
func TestTrap09OffsetOutOfRange(t *testing.T) {
	// commit sets the group's offset as a tool would.
	commit := func(t *testing.T, b *broker, group, topic string, offset int64) {
		client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Timeout: 10 * time.Second, Transport: &kafka.Transport{MetadataTopics: []string{topic}}}
		defer client.Transport.(*kafka.Transport).CloseIdleConnections()
		eventually(t, "offset committed", func() bool { // a new coordinator may need a moment
			res, err := client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{GroupID: group, GenerationID: -1,
				Topics: map[string][]kafka.OffsetCommit{topic: {{Partition: 0, Offset: offset}}}})
			return err == nil && res.Topics[topic][0].Error == nil
		})
	}
	for _, c := range []struct {
		name    string
		policy  OffsetPolicy
		offset  int64
		first   string // first value read, or "" for none of the old ones
		skipped uint64
	}{
		{"before the start, earliest", Earliest, 3, "10", 7},
		{"before the start, latest", Latest, 3, "", 17},
		{"beyond the end, earliest", Earliest, 99, "10", 0},
		{"beyond the end, latest", Latest, 99, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBrokers(t, func(t *testing.T, b *broker) {
				topic, group := b.topic(t, 1), b.name(t, "group")
				b.seed(t, topic, 20, 1)
				b.moveLogStart(t, topic, 10)
				commit(t, b, group, topic, c.offset)
				s := b.subscriber(t, group, func(cfg *SubscriberConfig) { cfg.OnOutOfRange = c.policy; cfg.Logger = nil })
				messages := subscribe(t, s, topic)
				eventually(t, "counted", func() bool { return s.Stats().OutOfRange == 1 })
				require.Equal(t, c.skipped, s.Stats().Skipped)
				if c.first != "" {
					require.Equal(t, c.first, collect(t, messages, 10)[0])
				}
				eventually(t, "the move is committed", func() bool { return b.committed(t, group, topic, 1)[0] == 20 })
				b.seed(t, topic, 1, 1)
				require.Equal(t, []string{"0"}, collect(t, messages, 1))
			})
		})
	}
	t.Run("fail", func(t *testing.T) {
		onBrokers(t, func(t *testing.T, b *broker) {
			topic, group := b.topic(t, 1), b.name(t, "group")
			b.seed(t, topic, 20, 1)
			b.moveLogStart(t, topic, 10)
			commit(t, b, group, topic, 3)
			s := b.subscriber(t, group, func(cfg *SubscriberConfig) { cfg.OnOutOfRange = Fail; cfg.Logger = nil })
			messages := subscribe(t, s, topic)
			select {
			case _, open := <-messages:
				require.False(t, open)
			case <-time.After(patience):
				require.FailNow(t, "the channel stays open")
			}
			var out *OffsetRangeError
			require.ErrorAs(t, s.Err(), &out)
			require.Equal(t, OffsetRangeError{Topic: topic, Offset: 3, First: 10, End: 20}, *out)
			require.Equal(t, []int64{3}, b.committed(t, group, topic, 1))
		})
	})
	t.Run("while reading", func(t *testing.T) {
		onBrokers(t, func(t *testing.T, b *broker) {
			topic, group := b.topic(t, 1), b.name(t, "group")
			b.seed(t, topic, 4, 1)
			s := b.subscriber(t, group, func(cfg *SubscriberConfig) { cfg.MaxBatchRecords = 1; cfg.FetchAheadBytes = 1024; cfg.Logger = nil })
			messages := subscribe(t, s, topic)
			held := receive(t, messages)
			p := b.producer(t, func(c *ProducerConfig) { c.Compression = "none" })
			for i := range 100 { // far more than is fetched ahead
				require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 1000))}}))
			}
			b.moveLogStart(t, topic, 100)
			held.Ack()
			got := collect(t, messages, 1)
			for !strings.HasPrefix(got[len(got)-1], "99 ") {
				got = append(got, collect(t, messages, 1)...)
			}
			require.Less(t, len(got), 50, "most had been deleted before it was fetched")
			require.True(t, strings.HasPrefix(got[len(got)-4], "96 "), "and all that was left is read")
			require.EqualValues(t, 1, s.Stats().OutOfRange)
			require.EqualValues(t, 103, uint64(len(got))+s.Stats().Skipped, "what is lost is counted")
		})
	})
}

// Trap 10: a "latest" start that is not committed loses what is written between
// two runs.
func TestTrap10LatestStartIsCommitted(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 10, 1)
		latest := func(c *SubscriberConfig) { c.StartAt = Latest }
		s := b.subscriber(t, group, latest)
		subscribe(t, s, topic)
		eventually(t, "the start is committed before anything is read", func() bool { return b.committed(t, group, topic, 1)[0] == 10 })
		require.NoError(t, s.Close())
		b.seed(t, topic, 5, 1) // nobody reads meanwhile
		require.Len(t, collect(t, subscribe(t, b.subscriber(t, group, latest), topic), 5), 5)
	})
}

// Trap 12: kafka-go's Close may wait for its fetches, and for a join.
func TestTrap12CloseIsPrompt(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic := b.topic(t, 2)
		for range 2 { // idle, and right after joining
			s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.MaxWait = 10 * time.Second })
			messages := subscribe(t, s, topic)
			began := time.Now()
			require.NoError(t, s.Close())
			require.Less(t, time.Since(began), 3*time.Second)
			_, open := <-messages
			require.False(t, open)
		}
	})
}

// Trap 22: a connection per partition.
func TestTrap22PartitionsShareConnections(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const partitions = 40
		topic := b.topic(t, partitions)
		b.seed(t, topic, 4000, 1000)
		var open, most atomic.Int64
		s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) {
			c.Connection.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				if n := open.Add(1); n > most.Load() {
					most.Store(n)
				}
				return &countedConn{Conn: conn, open: &open}, nil
			}
		})
		messages := subscribe(t, s, topic)
		collect(t, messages, 4000)
		b.seed(t, topic, 4000, 1000)
		collect(t, messages, 4000)
		// Metadata, the coordinator (twice while it is looked up), fetches.
		require.LessOrEqual(t, most.Load(), int64(fetchesPerBroker+4))
	})
}

// Idle partitions gather in one long poll, also after they have been busy one by
// one.
func TestIdlePartitionsShareOneLongPoll(t *testing.T) {
	b := fakeBroker(t)
	const partitions = 8
	topic := b.topic(t, partitions)
	b.seed(t, topic, 500, 100)
	var fetches, widest atomic.Int64
	b.fake.Kfake().ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		fetches.Add(1)
		for _, rt := range req.(*kmsg.FetchRequest).Topics {
			widest.Store(int64(len(rt.Partitions)))
		}
		return nil, nil, false
	})
	s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.MaxWait = time.Second; c.MaxBatchRecords = 3 })
	messages := subscribe(t, s, topic)
	collect(t, messages, 500)
	eventually(t, "one request covers all partitions", func() bool { return widest.Load() == partitions })
	before := fetches.Load()
	time.Sleep(3 * time.Second)
	require.LessOrEqual(t, fetches.Load()-before, int64(5), "three long polls in three seconds, give or take")
	// And a record that comes meanwhile does not wait for the poll to end.
	b.seed(t, topic, 1, 1)
	began := time.Now()
	collect(t, messages, 1)
	require.Less(t, time.Since(began), 750*time.Millisecond)
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	read   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read != nil {
		c.read.Add(int64(n))
	}
	return n, err
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) && c.open != nil {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// A handler that does not keep up stops fetching: memory does not grow with the
// backlog.
func TestFetchAheadIsBounded(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const partitions, size = 4, 1000
		topic := b.topic(t, partitions)
		p := b.producer(t, func(c *ProducerConfig) { c.Compression = "none" })
		for range 20 { // 20 MB
			var outputs []pipeline.Output
			for i := range 1000 {
				outputs = append(outputs, pipeline.Output{Topic: topic, Key: fmt.Append(nil, i), Value: make([]byte, size)})
			}
			require.NoError(t, p.Produce(t.Context(), outputs))
		}
		var read atomic.Int64
		s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) {
			c.FetchAheadBytes = 100_000
			c.MaxBufferedBytes = 300_000
			c.MaxBatchRecords = 10
			c.Connection.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				return &countedConn{Conn: conn, read: &read}, err
			}
		})
		messages := subscribe(t, s, topic)
		var held []*message.Message
		for range partitions {
			held = append(held, receive(t, messages))
		}
		settled := int64(-1)
		eventually(t, "fetching stops", func() bool {
			before := settled
			settled = read.Load()
			time.Sleep(30 * time.Millisecond)
			return before == settled
		})
		// One batch of the log may be as large as a request of the producer: here
		// 250 records. Two answers of that size for each partition, at most.
		require.Less(t, settled, int64(partitions*2*300*size))
		for _, m := range held {
			m.Ack()
		}
		collect(t, messages, 20_000-10*partitions)
	})
}

// Compaction leaves gaps, also at the end of a batch, of which kafka-go tells
// nothing: fetching must get past them.
func TestDecodeGetsPastCompactedEndOfBatch(t *testing.T) {
	answer := func(offsets ...int64) *fetch.ResponsePartition {
		var records []protocol.Record
		for _, o := range offsets {
			records = append(records, protocol.Record{Offset: o, Value: protocol.NewBytes([]byte{byte(o)})})
		}
		return &fetch.ResponsePartition{RecordSet: protocol.RecordSet{Records: &protocol.RecordStream{
			Records: []protocol.RecordReader{&protocol.RecordBatch{BaseOffset: 10, Records: protocol.NewRecordReader(records...)}},
		}}}
	}
	got, err := decodePartition(answer(10, 12, 15), 12, 0)
	require.NoError(t, err)
	require.Len(t, got.records, 2)
	require.EqualValues(t, 16, got.next)
	for _, empty := range []*fetch.ResponsePartition{answer(10, 12, 15), answer()} {
		got, err = decodePartition(empty, 17, 0)
		require.NoError(t, err)
		require.Empty(t, got.records)
		require.EqualValues(t, 18, got.next)
	}
	got, err = decodePartition(&fetch.ResponsePartition{}, 17, 0)
	require.NoError(t, err)
	require.EqualValues(t, 17, got.next, "no batch at all: the end of the log")
}

// The same with a broker that really compacts.
func TestReadsCompactedTopic(t *testing.T) {
	b := &broker{addrs: kafkatest.Real(t)}
	topic, group := b.topic(t, 1, "cleanup.policy", "compact", "segment.ms", "100", "min.cleanable.dirty.ratio", "0.01",
		"max.compaction.lag.ms", "100", "segment.bytes", "1048576"), b.name(t, "group")
	const rounds = 30
	p := b.producer(t)
	end := int64(0)
	for round := range rounds {
		var outputs []pipeline.Output
		for i := range 50 { // one key survives of every round, in the middle of its batch
			key := "often"
			if i == 25 {
				key = fmt.Sprint("once-", round)
			}
			outputs = append(outputs, pipeline.Output{Topic: topic, Key: []byte(key), Value: fmt.Append(nil, round)})
		}
		require.NoError(t, p.Produce(t.Context(), outputs))
		end += 50
	}
	roll := func() { // only closed segments are compacted
		require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Key: []byte("often"), Value: []byte("last")}}))
		end++
	}
	eventually(t, "the log is compacted", func() bool {
		roll()
		time.Sleep(200 * time.Millisecond)
		s := b.subscriber(t, b.name(t, "probe"))
		defer s.Close()
		messages := subscribe(t, s, topic)
		n := 0
		for {
			m := receive(t, messages)
			records := batchOf(t, m).Records
			n += len(records)
			m.Ack()
			if records[len(records)-1].Offset == end-1 {
				return n < int(end)/2
			}
		}
	})
	s := b.subscriber(t, group, func(c *SubscriberConfig) { c.FetchAheadBytes = 1024 })
	messages := subscribe(t, s, topic)
	once := map[string]bool{}
	last := int64(-1)
	for last < end-1 {
		m := receive(t, messages)
		for _, r := range batchOf(t, m).Records {
			require.Greater(t, r.Offset, last)
			last = r.Offset
			if strings.HasPrefix(string(r.Key), "once-") {
				once[string(r.Key)] = true
			}
		}
		m.Ack()
	}
	require.Len(t, once, rounds)
}
