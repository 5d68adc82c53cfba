package kafkago

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

func subscribe(t testing.TB, s *Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

// eventually polls until ok, without assuming how long that takes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

func TestNackRedeliversTheSameBatch(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 30, 3)
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 10 })
		messages := subscribe(t, s, topic)
		first := receive(t, messages)
		want := batchOf(t, first).Records
		require.True(t, first.Nack())
		for range 3 {
			again := receive(t, messages)
			require.Equal(t, want, batchOf(t, again).Records)
			require.True(t, again.Nack())
		}
		require.LessOrEqual(t, b.committed(t, group, topic, 1)[0], int64(0), "nothing but the start is committed")
		for at := int64(0); at < 30; at += 10 {
			m := receive(t, messages)
			require.Equal(t, at, batchOf(t, m).Records[0].Offset)
			require.True(t, m.Ack())
		}
		require.NoError(t, s.Close())
		require.EqualValues(t, 4, s.Stats().Nacks)
		require.Equal(t, []int64{30}, b.committed(t, group, topic, 1))
	})
}

func TestOnlyAckedBatchesAreCommitted(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 30, 3)
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 10; c.DrainTimeout = 50 * time.Millisecond })
		messages := subscribe(t, s, topic)
		receive(t, messages).Ack()
		eventually(t, "the first batch is committed while the second is in flight", func() bool {
			return b.committed(t, group, topic, 1)[0] == 10
		})
		unfinished := receive(t, messages)
		require.NoError(t, s.Close())
		require.ErrorIs(t, unfinished.Context().Err(), context.Canceled)
		unfinished.Ack() // too late: it was given up
		require.Equal(t, []int64{10}, b.committed(t, group, topic, 1))
		require.EqualValues(t, 1, s.Stats().Abandoned)

		again := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 10 })
		m := receive(t, subscribe(t, again, topic))
		require.EqualValues(t, 10, batchOf(t, m).Records[0].Offset)
		m.Ack()
	})
}

// kill ends a subscriber as a crash would: from one moment to the next it says
// nothing to the brokers any more, not even that it leaves.
func (s *Subscriber) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.closers {
		sub.link.wire.cut()
	}
}

// A crash after the outputs are stored and before the offset is committed
// repeats records, and loses none.
func TestCrashBetweenProduceAndCommitRepeatsAndLosesNothing(t *testing.T) {
	test := func(t *testing.T, b *broker) {
		const n, partitions = 2000, 3
		in, out, group := b.topic(t, partitions), b.topic(t, 2), b.name(t, "group")
		b.seed(t, in, n, 31)
		p := b.producer(t)
		// copyBatch is the unit of work: store what follows from a batch, then ack.
		copyBatch := func(m *message.Message) int {
			batch := batchOf(t, m)
			var outputs []pipeline.Output
			for _, r := range batch.Records {
				outputs = append(outputs, pipeline.Output{Topic: out, Key: r.Key, Value: fmt.Appendf(nil, "%d/%d", batch.Partition, r.Offset)})
			}
			require.NoError(t, p.Produce(t.Context(), outputs))
			m.Ack()
			return len(outputs)
		}
		short := func(c *SubscriberConfig) {
			c.MaxBatchRecords = 50
			c.SessionTimeout, c.RebalanceTimeout = 1500*time.Millisecond, 1500*time.Millisecond
			c.DrainTimeout = 10 * time.Millisecond
		}
		doomed := b.subscriber(t, group, short, func(c *SubscriberConfig) { c.CommitInterval = time.Hour })
		messages := subscribe(t, doomed, in)
		stored := 0
		for range 8 {
			stored += copyBatch(receive(t, messages))
		}
		doomed.kill()
		go func(lost <-chan *message.Message) { // whatever it still hands out finds no one
			for range lost {
			}
		}(messages)

		survivor := b.subscriber(t, group, short)
		messages = subscribe(t, survivor, in)
		for seen := 0; seen < n; {
			seen += copyBatch(receive(t, messages))
		}
		require.NoError(t, survivor.Close())

		ids := map[string]int{}
		for _, records := range b.readAll(t, out, n+stored) {
			for _, r := range records {
				ids[string(r.Value)]++
			}
		}
		require.Len(t, ids, n, "no record is lost")
		repeated := 0
		for _, times := range ids {
			repeated += times - 1
		}
		require.Equal(t, stored, repeated, "what was stored without a commit is repeated, with equal ids")
	}
	t.Run("kfake", func(t *testing.T) { test(t, fakeBroker(t, kfake.GroupMinSessionTimeout(time.Second))) })
	t.Run("kafka", func(t *testing.T) { test(t, &broker{addrs: kafkatest.Real(t)}) })
}

// Two members: the first one hands half of its partitions over without repeating
// or losing anything, because what is in flight is finished and committed first.
func TestRevocationFinishesAndCommitsInFlight(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 3000, 4
		topic, group := b.topic(t, partitions), b.name(t, "group")
		b.seed(t, topic, n, 101)

		var mu sync.Mutex
		seen := map[string]int{} // coordinates → times acked
		total := 0
		consume := func(name string, s *Subscriber, owned map[int32]bool) func() {
			messages := subscribe(t, s, topic)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for m := range messages {
					batch, _ := pipeline.BatchOf(m)
					mu.Lock()
					for _, r := range batch.Records {
						seen[fmt.Sprintf("%d/%d", batch.Partition, r.Offset)]++
					}
					total += len(batch.Records)
					owned[batch.Partition] = true
					mu.Unlock()
					m.Ack()
				}
			}()
			return func() { <-done }
		}
		small := func(c *SubscriberConfig) { c.MaxBatchRecords = 20; c.FetchAheadBytes = 1024 }
		first, second := b.subscriber(t, group, small), b.subscriber(t, group, small)
		ownedFirst, ownedSecond := map[int32]bool{}, map[int32]bool{}
		waitFirst := consume("first", first, ownedFirst)
		eventually(t, "the first member has all partitions", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(ownedFirst) == partitions
		})
		waitSecond := consume("second", second, ownedSecond)
		// Records go on arriving, so that the second member has something to do.
		extra := 0
		eventually(t, "the second member has its share", func() bool {
			b.seed(t, topic, 100, 101)
			extra += 100
			mu.Lock()
			defer mu.Unlock()
			return len(ownedSecond) == partitions/2
		})
		eventually(t, "all is read", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) == n+extra
		})
		require.NoError(t, first.Close())
		require.NoError(t, second.Close())
		waitFirst()
		waitSecond()
		require.Equal(t, n+extra, total, "nothing is repeated in an orderly handover")
		require.Zero(t, first.Stats().Abandoned+second.Stats().Abandoned)
		sum := int64(0)
		for _, at := range b.committed(t, group, topic, partitions) {
			sum += at
		}
		require.EqualValues(t, n+extra, sum)
	})
}

// Traps 1 and 5: a batch not finished within the revocation budget is given up;
// its late ack does not commit the lost partition.
func TestTrap01LateAckDoesNotCommitLostPartition(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 100, 5)
		small := func(c *SubscriberConfig) { c.MaxBatchRecords = 10; c.RevokeBudget = 50 * time.Millisecond }
		slow, quick := b.subscriber(t, group, small), b.subscriber(t, group, small)
		held := receive(t, subscribe(t, slow, topic))
		require.EqualValues(t, 0, batchOf(t, held).Records[0].Offset)

		var mu sync.Mutex
		got := map[int64]bool{}
		messages := subscribe(t, quick, topic) // makes the group rebalance
		done := make(chan struct{})
		go func() {
			defer close(done)
			for m := range messages {
				batch, _ := pipeline.BatchOf(m)
				mu.Lock()
				for _, r := range batch.Records {
					got[r.Offset] = true
				}
				mu.Unlock()
				m.Ack()
			}
		}()
		select {
		case <-held.Context().Done(): // the budget is over
		case <-time.After(patience):
			require.FailNow(t, "the batch was not given up")
		}
		eventually(t, "counted", func() bool { return slow.Stats().Abandoned >= 1 })
		held.Ack() // late
		require.NoError(t, slow.Close())
		eventually(t, "the other member does it all", func() bool { return b.committed(t, group, topic, 1)[0] == 100 })
		require.NoError(t, quick.Close())
		<-done
		require.Len(t, got, 100, "the late ack committed nothing: the other member began at 0")
	})
}

// Trap 1, the commit itself: through a generation that is over it is refused.
func TestTrap01StaleGenerationCannotCommit(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 20, 1)
		join := func() (*kafka.ConsumerGroup, *link) {
			l, err := b.connection().open([]string{topic}, coordinatorTimeout)
			require.NoError(t, err)
			g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: b.addrs, Dialer: l.dialer, Topics: []string{topic},
				HeartbeatInterval: 50 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second})
			require.NoError(t, err)
			return g, l
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		first, link := join()
		defer link.close()
		defer first.Close()
		gen, err := first.Next(ctx)
		require.NoError(t, err)
		ended := make(chan struct{})
		gen.Start(func(term context.Context) { <-term.Done(); close(ended) })

		l := newLane(topic, 0, 0, make(chan struct{}, 1))
		stats := &subscriberCounters{}
		cfg := &SubscriberConfig{Logger: testLogger(t)}
		cfg.setDefaults()
		g := &generation{cfg: cfg, stats: stats, link: link, topic: topic, gen: gen, lanes: []*lane{l}, shown: &atomic.Pointer[[]*lane]{}}
		l.offsets.finish(l.offsets.begin(7))
		g.commit()
		require.EqualValues(t, 1, stats.commits.Load())
		require.Equal(t, []int64{7}, b.committed(t, group, topic, 1))

		second, link2 := join()
		defer link2.close()
		defer second.Close()
		go func() { _, _ = first.Next(ctx) }() // the first member takes part in the rebalance
		_, err = second.Next(ctx)
		require.NoError(t, err)
		<-ended
		l.offsets.finish(l.offsets.begin(19))
		g.commit()
		require.EqualValues(t, 1, stats.commits.Load())
		require.EqualValues(t, 1, stats.commitErrors.Load())
		require.Equal(t, []int64{7}, b.committed(t, group, topic, 1))
	})
}

// Watermill trap 1: closing the router must not cancel what is being worked on,
// and must not lose its ack.
func TestTrapW1RouterCloseDrains(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group := b.topic(t, 1), b.name(t, "group")
		b.seed(t, topic, 10, 1)
		s := b.subscriber(t, group)
		router, err := message.NewRouter(message.RouterConfig{CloseTimeout: patience}, watermill.NopLogger{})
		require.NoError(t, err)
		handling, finish := make(chan struct{}), make(chan struct{})
		var ctxErr error
		router.AddConsumerHandler("h", topic, s, func(m *message.Message) error {
			close(handling)
			<-finish
			ctxErr = m.Context().Err()
			return ctxErr
		})
		ran := make(chan error, 1)
		go func() { ran <- router.Run(t.Context()) }()
		<-handling
		closed := make(chan error, 1)
		go func() { closed <- router.Close() }()
		eventually(t, "closing has begun", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.closed
		})
		close(finish)
		require.NoError(t, <-closed)
		require.NoError(t, <-ran)
		require.NoError(t, ctxErr)
		require.Equal(t, []int64{10}, b.committed(t, group, topic, 1))
	})
}

// A commit that was refused is made again, although nothing more comes.
func TestRefusedCommitIsRepeated(t *testing.T) {
	b := fakeBroker(t)
	topic, group := b.topic(t, 1), b.name(t, "group")
	b.seed(t, topic, 3, 1)
	var refusals atomic.Int64
	b.fake.Kfake().ControlKey(kmsg.OffsetCommit.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.Kfake().KeepControl()
		if refusals.Load() == 3 {
			return nil, nil, false
		}
		refusals.Add(1)
		asked, res := req.(*kmsg.OffsetCommitRequest), req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range asked.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = topic.Topic
			for _, partition := range topic.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = partition.Partition, kerr.NotCoordinator.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})
	s := b.subscriber(t, group, func(c *SubscriberConfig) { c.Logger = nil })
	collect(t, subscribe(t, s, topic), 3)
	eventually(t, "all is committed", func() bool { return b.committed(t, group, topic, 1)[0] == 3 })
	require.EqualValues(t, 3, refusals.Load())
	require.EqualValues(t, 3, s.Stats().CommitErrors)
}

// Closed between joining and a sync that a rebalance refuses, kafka-go ends
// without leaving the group, which then waits for a member that is gone.
func TestTrap12CloseWhileJoiningLeavesNoGhost(t *testing.T) {
	b := fakeBroker(t)
	topic, group := b.topic(t, 1), b.name(t, "group")
	b.seed(t, topic, 1, 1)
	s := b.subscriber(t, group)
	closed := make(chan error, 1)
	var refused atomic.Bool
	b.fake.Kfake().ControlKey(kmsg.SyncGroup.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		refused.Store(true)
		go func() { closed <- s.Close() }()
		for {
			s.mu.Lock()
			closing := s.closed
			s.mu.Unlock()
			if closing {
				break
			}
			runtime.Gosched()
		}
		res := req.ResponseKind().(*kmsg.SyncGroupResponse)
		res.ErrorCode = kerr.RebalanceInProgress.Code
		return res, nil, true
	})
	subscribe(t, s, topic)
	eventually(t, "the sync is refused", refused.Load)
	require.NoError(t, <-closed)

	next := b.subscriber(t, group)
	began := time.Now()
	receive(t, subscribe(t, next, topic)).Ack()
	require.Less(t, time.Since(began), 3*time.Second, "half the session timeout")
}

// Watermill trap 3 and 4: however the handler runs, a partition has one batch in
// flight, and partitions do not wait for each other.
func TestTrapW4OneBatchInFlightPerPartition(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		topic := b.topic(t, 3)
		b.seed(t, topic, 300, 50)
		s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.MaxBatchRecords = 5 })
		messages := subscribe(t, s, topic)
		var inFlight []*message.Message
		var partitions []int32
		for range 3 {
			m := receive(t, messages)
			inFlight = append(inFlight, m)
			partitions = append(partitions, batchOf(t, m).Partition)
		}
		slices.Sort(partitions)
		require.Equal(t, []int32{0, 1, 2}, partitions)
		select {
		case m := <-messages:
			require.FailNow(t, "a second batch of a partition came: "+m.UUID)
		case <-time.After(50 * time.Millisecond):
		}
		for _, m := range inFlight {
			m.Ack()
		}
		for range 3 {
			receive(t, messages).Ack()
		}
	})
}

// Trap 6: nothing of Kafka's takes a partition from a stuck handler, so say so.
func TestTrap06StuckBatchIsReported(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	b.seed(t, topic, 1, 1)
	s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.StallAfter = time.Millisecond; c.Logger = nil })
	m := receive(t, subscribe(t, s, topic))
	eventually(t, "reported", func() bool { return s.Stats().Stalled == 1 })
	m.Ack()
	eventually(t, "and still acked", func() bool { return s.Stats().Batches == 1 })
}

func TestPlainMessages(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	p := NewPublisher(b.producer(t))
	for i := range 5 {
		m := message.NewMessage("id-"+strconv.Itoa(i), []byte(strconv.Itoa(i)))
		m.Metadata.Set(MetadataKey, "k")
		m.Metadata.Set("trace", "t")
		require.NoError(t, p.Publish(topic, m))
	}
	s := b.subscriber(t, b.name(t, "group"), func(c *SubscriberConfig) { c.PlainMessages = true })
	messages := subscribe(t, s, topic)
	for i := range 5 {
		m := receive(t, messages)
		require.Equal(t, "id-"+strconv.Itoa(i), m.UUID)
		require.Equal(t, strconv.Itoa(i), string(m.Payload))
		require.Equal(t, message.Metadata{MetadataKey: "k", "trace": "t", MetadataTopic: topic, MetadataPartition: "0", MetadataOffset: strconv.Itoa(i)}, m.Metadata)
		m.Ack()
	}
}

// Partitions are acked in any order, each as often as the others or not: every one
// is committed as far as it is done, and a partition that is held back holds back
// nobody else.
func TestAcksInAnyOrder(t *testing.T) {
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 1200, 6
		topic, group := b.topic(t, partitions), b.name(t, "group")
		b.seed(t, topic, n, 200)
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.MaxBatchRecords = 7; c.DrainTimeout = 50 * time.Millisecond })
		messages := subscribe(t, s, topic)
		held := receive(t, messages)
		stuck := batchOf(t, held)
		random := rand.New(rand.NewPCG(6, 1))
		done := make([]int64, partitions)
		ends := make([]int64, partitions)
		for _, lag := range s.Lags() {
			ends[lag.Partition] = lag.End
		}
		left := int64(n) - ends[stuck.Partition]
		var open []*message.Message
		for left > 0 {
			// Gather what there is, then ack some of it in random order.
			for len(open) < partitions-1 {
				var m *message.Message
				select {
				case m = <-messages:
				case <-time.After(20 * time.Millisecond):
				}
				if m == nil {
					break
				}
				open = append(open, m)
			}
			random.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
			for range min(len(open), 1+random.IntN(partitions)) {
				batch := batchOf(t, open[0])
				require.Equal(t, done[batch.Partition], batch.Records[0].Offset)
				done[batch.Partition] += int64(len(batch.Records))
				left -= int64(len(batch.Records))
				open[0].Ack()
				open = open[1:]
			}
		}
		eventually(t, "all but the held partition is committed", func() bool {
			for p, at := range b.committed(t, group, topic, partitions) {
				if int32(p) != stuck.Partition && at != ends[p] {
					return false
				}
			}
			return true
		})
		require.LessOrEqual(t, b.committed(t, group, topic, partitions)[stuck.Partition], int64(0))
		require.NoError(t, s.Close())
	})
}
