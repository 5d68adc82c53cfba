package pipeline_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

func TestTheAccountAddsUp(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 3000
		r.seed(t, n, 50)
		s := r.start(t, options{})
		s.finish(t, n)
		o := r.outcome(t)
		r.requireComplete(t, o)
		require.Zero(t, o.repeats)
		stats := s.Stats()
		assert.EqualValues(t, n, stats.Read)
		assert.EqualValues(t, len(o.decisions), stats.Decided)
		assert.EqualValues(t, len(o.letters), stats.Rejected())
		assert.EqualValues(t, len(o.events), stats.Visitors)
		assert.Greater(t, len(o.letters), 50)
		assert.Zero(t, stats.Repeats)
	})
}

// Decisions of a user come out in the order of its activities.
func TestOrderPerUserIsKept(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 3000
		r.seed(t, n, 50)
		s := r.start(t, options{})
		s.finish(t, n)
		last, lastPartition := map[string]int64{}, map[string]int{}
		for _, d := range r.read(t, r.topics.Decisions) {
			user, from := string(d.Key), sourceOf(t, &d)
			if before, ok := last[user]; ok {
				require.Less(t, before, from.offset)
				require.Equal(t, lastPartition[user], d.partition, "all decisions of a user lie in one partition")
			}
			last[user], lastPartition[user] = from.offset, d.partition
		}
		require.Greater(t, len(last), 40)
	})
}

// The same input, through a group and output topics of its own, gives the same
// records.
func TestTheSameInputGivesTheSameRecords(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 2000
		r.seed(t, n, 30)
		r.start(t, options{}).finish(t, n)
		first := r.outcome(t)

		r.group += "-again"
		r.newOutputs(t, r.group)
		r.start(t, options{subscriber: func(c *kafkago.SubscriberConfig) { c.MaxBatchRecords = 37 }}).finish(t, n)
		second := r.outcome(t)
		r.requireComplete(t, second)
		require.Equal(t, first.events, second.events)
		for _, pair := range [][2]map[coordinates]stored{{first.decisions, second.decisions}, {first.letters, second.letters}} {
			require.Len(t, pair[1], len(pair[0]))
			for at, a := range pair[0] {
				b := pair[1][at]
				require.Equal(t, a.partition, b.partition)
				a.Topic, b.Topic = "", ""
				require.Equal(t, a.Output, b.Output)
			}
		}
	})
}

// flaky fails every other call: half of the time before anything is stored, half
// of the time after all is stored and only the answer is lost.
type flaky struct {
	pipeline.Producer
	calls  atomic.Int64
	failed atomic.Int64
}

func (f *flaky) Produce(ctx context.Context, outputs []pipeline.Output) error {
	call := f.calls.Add(1)
	if call%4 == 3 {
		if err := f.Producer.Produce(ctx, outputs); err != nil {
			return err
		}
	}
	if call%2 == 1 {
		f.failed.Add(1)
		e := &pipeline.ProduceError{}
		for i := range outputs {
			e.Failed = append(e.Failed, pipeline.FailedOutput{Index: i, Err: errors.New("no answer")})
		}
		return e
	}
	return f.Producer.Produce(ctx, outputs)
}

func TestTransientFailuresAreRepeatedUntilStored(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 2000
		r.seed(t, n, 30)
		f := &flaky{}
		s := r.start(t, options{producer: func(p pipeline.Producer) pipeline.Producer { f.Producer = p; return f }})
		s.finish(t, n)
		o := r.outcome(t)
		r.requireComplete(t, o)
		require.Positive(t, o.repeats, "stored, then repeated")
		assert.EqualValues(t, f.failed.Load(), s.Stats().Repeats)
		assert.EqualValues(t, n, s.Stats().Read, "a repeated batch counts once")
	})
}

// plug is a network cable.
type plug struct {
	mu     sync.Mutex // guards the fields below
	open   []net.Conn
	pulled bool
}

func (p *plug) dial(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled {
		return nil, net.ErrClosed
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		p.open = append(p.open, c)
	}
	return c, err
}

func (p *plug) pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = true
	for _, c := range p.open {
		_ = c.Close()
	}
}

// crashing pulls the plug when the outputs of the last unit are stored: the batch
// is neither acked nor committed, and nothing more will be.
type crashing struct {
	pipeline.Units
	plug    *plug
	units   atomic.Int64
	last    int64
	crashed chan struct{}
}

type crashingUnit struct {
	pipeline.UnitOfWork
	of *crashing
}

func (c *crashing) Begin(ctx context.Context, b *pipeline.Batch) (pipeline.UnitOfWork, error) {
	u, err := c.Units.Begin(ctx, b)
	return &crashingUnit{u, c}, err
}

func (u *crashingUnit) Commit(ctx context.Context) error {
	if n := u.of.units.Add(1); n >= u.of.last {
		if n == u.of.last {
			u.of.plug.pull()
			close(u.of.crashed)
		}
		return errors.New("crashed")
	}
	return u.UnitOfWork.Commit(ctx)
}

// A crash after the outputs are stored and before the offset is committed repeats
// records, with equal ids and equal bytes, and loses none. Three times over.
func TestCrashBetweenStoreAndCommitRepeatsAndLosesNothing(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 2000
		r.seed(t, n, 30)
		short := func(c *kafkago.SubscriberConfig) {
			c.SessionTimeout, c.RebalanceTimeout = 1500*time.Millisecond, 1500*time.Millisecond
		}
		for range 3 {
			c := &crashing{plug: &plug{}, last: 5, crashed: make(chan struct{})}
			doomed := r.start(t, options{
				subscriber: func(cfg *kafkago.SubscriberConfig) {
					short(cfg)
					// Nothing of what is stored before the crash gets committed.
					cfg.CommitInterval, cfg.DrainTimeout = time.Hour, time.Millisecond
					cfg.Connection.Dial = c.plug.dial
				},
				units: func(u pipeline.Units) pipeline.Units { c.Units = u; return c },
			})
			select {
			case <-c.crashed:
			case <-time.After(patience):
				require.FailNow(t, "nothing was stored")
			}
			doomed.stop()
			require.NoError(t, <-doomed.ended)
			require.Less(t, doomed.Stats().Read, uint64(n))
		}
		s := r.start(t, options{subscriber: short})
		s.finish(t, n)
		o := r.outcome(t)
		r.requireComplete(t, o)
		require.Positive(t, o.repeats)
		require.EqualValues(t, n, s.Stats().Read, "nothing had been committed")
	})
}

// Stopping in the middle, in good order, repeats nothing.
func TestStoppingFinishesWhatIsInFlight(t *testing.T) {
	onBrokers(t, func(t *testing.T, r *rig) {
		const n = 3000
		r.seed(t, n, 30)
		done := uint64(0)
		for range 3 {
			s := r.start(t, options{})
			s.finish(t, 300)
			done += s.Stats().Read
		}
		s := r.start(t, options{})
		s.finish(t, n-int(done))
		o := r.outcome(t)
		r.requireComplete(t, o)
		require.Zero(t, o.repeats)
	})
}

func TestMissingTopicIsAnError(t *testing.T) {
	r := newRig(t, kafkatest.Fake(t, nil).Addrs())
	r.topics.Activities = "nowhere"
	s := r.start(t, options{subscriber: func(c *kafkago.SubscriberConfig) { c.TopicTimeout = 100 * time.Millisecond }})
	var missing *kafkago.TopicMissingError
	require.ErrorAs(t, <-s.ended, &missing)
	require.Equal(t, "nowhere", missing.Topic)
}

// A subscription that ends by itself is not the same as being stopped.
func TestSubscriptionThatEndsByItselfIsAnError(t *testing.T) {
	r := newRig(t, kafkatest.Fake(t, nil).Addrs())
	r.seed(t, 10, 0)
	subscriber, err := kafkago.NewSubscriber(kafkago.SubscriberConfig{
		Connection: kafkago.Connection{Brokers: r.addrs}, Group: r.group, MaxWait: 50 * time.Millisecond,
	})
	require.NoError(t, err)
	assign, err := pipeline.NewAssign(pipeline.Config{
		Settings: pipeline.Settings{Stream: "test", Client: testClient}, Topics: r.topics,
	}, pipeline.AtLeastOnce(r.producer(t)), testSnapshots(t), nil)
	require.NoError(t, err)
	p, err := pipeline.New(pipeline.Options{}, pipeline.Leg{Stage: assign, From: subscriber})
	require.NoError(t, err)
	ended := make(chan error, 1) // capacity 1: written once
	go func() { ended <- p.Run(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool { return assign.Stats().Read >= 10 }, patience, 5*time.Millisecond)
	require.NoError(t, subscriber.Close())
	require.ErrorIs(t, <-ended, pipeline.ErrEnded)
}
