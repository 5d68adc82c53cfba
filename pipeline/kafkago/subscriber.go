package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
)

// SubscriberConfig configures a [Subscriber].
type SubscriberConfig struct {
	Connection Connection
	// Group is the consumer group. Required.
	Group string
	// MaxBatchRecords bounds a micro-batch. Default 1000; from 1 to 100,000.
	MaxBatchRecords int
	// PlainMessages hands out one message per record, with the value as payload
	// and the headers as metadata, still in order and one at a time. For handlers
	// that know nothing of batches; slow.
	PlainMessages bool
	// StartAt is where a group begins that has no offsets: Earliest (default) or
	// Latest.
	StartAt OffsetPolicy
	// OnOutOfRange is what happens when the log no longer has the group's offset
	// (retention), or not any more (data loss, topic made anew): Earliest
	// (default), Latest or Fail. Every move is counted and logged.
	OnOutOfRange OffsetPolicy
	// MaxWait is how long a broker may hold an idle fetch. Default 500 ms.
	MaxWait time.Duration
	// MaxFetchBytes bounds one answer, as stored. Default 16 MiB.
	MaxFetchBytes int
	// FetchAheadBytes is how much of a partition may wait or be worked on before
	// fetching it pauses, and bounds what one answer brings of it, as stored. So a
	// partition holds at most FetchAheadBytes plus one answer, which compression
	// may make larger in memory; and a single larger record batch is let through.
	// Default 1 MiB.
	FetchAheadBytes int
	// MaxBufferedBytes is the same bound for all partitions of a subscription
	// together; a partition that has nothing is fetched regardless. Default 64 MiB.
	MaxBufferedBytes int
	// CommitInterval is how long finished work may stay uncommitted, and so the
	// work a crash repeats. Default 250 ms.
	CommitInterval time.Duration
	// NackBackoff is the pause before a nacked batch is handed out again; it
	// doubles up to MaxNackBackoff. Defaults 100 ms and 5 s.
	NackBackoff    time.Duration
	MaxNackBackoff time.Duration
	// StallAfter is when an unfinished batch is logged as stuck. Default 1 min.
	StallAfter time.Duration
	// DrainTimeout is how long closing waits for what is in flight. Less than
	// the router's CloseTimeout. Default 15 s.
	DrainTimeout time.Duration
	// SessionTimeout, RebalanceTimeout and HeartbeatInterval are the group
	// protocol's. Defaults 30 s, 30 s and 3 s.
	SessionTimeout    time.Duration
	RebalanceTimeout  time.Duration
	HeartbeatInterval time.Duration
	// RevokeBudget is how long a rebalance waits for what is in flight. There are
	// no heartbeats meanwhile: at most three quarters of SessionTimeout and of
	// RebalanceTimeout. Default two thirds of the shorter one.
	RevokeBudget time.Duration
	// TopicTimeout is how long Subscribe waits for a topic that does not exist.
	// Default 30 s.
	TopicTimeout time.Duration
	// Logger receives changes of state, never a line per record. Default: discards.
	Logger *slog.Logger
}

// Subscriber reads topics as a member of a consumer group, implementing
// Watermill's Subscriber. See the package comment for what it promises. Safe for
// concurrent use.
type Subscriber struct {
	cfg   SubscriberConfig
	stats subscriberCounters

	mu      sync.Mutex // guards the fields below
	closed  bool
	closers map[*subscription]context.CancelFunc
	err     error
	running sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// SubscriberStats are running totals since the Subscriber was made.
type SubscriberStats struct {
	Generations  uint64 // times the group was joined
	Batches      uint64 // acked
	Records      uint64 // in acked batches
	Nacks        uint64 // batches nacked, and so handed out again
	Abandoned    uint64 // batches given up unfinished, and so repeated by whoever is next
	Stalled      uint64 // times a batch was found stuck
	Commits      uint64 // commit requests that succeeded
	CommitErrors uint64 // commit requests that failed or were refused
	FetchErrors  uint64 // failed fetches
	Aborted      uint64 // records left out: their transaction was aborted
	Markers      uint64 // transaction markers left out
	OutOfRange   uint64 // times an offset was moved by policy
	Skipped      uint64 // offsets jumped over by such moves: work lost to retention
}

type subscriberCounters struct {
	generations, batches, records, nacks, abandoned, stalled, commits, commitErrors,
	fetchErrors, aborted, markers, outOfRange, skipped atomic.Uint64
}

// moved counts and logs that the policy moved a partition.
func (c *subscriberCounters) moved(logger *slog.Logger, where slog.Attr, from Position, to int64) {
	c.outOfRange.Add(1)
	skipped := max(0, min(to, from.End)-from.Offset)
	c.skipped.Add(uint64(skipped))
	logger.Error("the group's offset is not in the log: moved by policy", where, slog.Int64("offset", from.Offset),
		slog.Int64("first", from.First), slog.Int64("end", from.End), slog.Int64("to", to), slog.Int64("skipped", skipped))
}

// NewSubscriber checks cfg. It connects to nothing.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("kafka subscriber: %w", err)
	}
	return &Subscriber{cfg: cfg, closers: map[*subscription]context.CancelFunc{}}, nil
}

func (c *SubscriberConfig) setDefaults() {
	setDefault(&c.MaxBatchRecords, 1000)
	setDefault(&c.StartAt, Earliest)
	setDefault(&c.OnOutOfRange, Earliest)
	setDefault(&c.MaxWait, 500*time.Millisecond)
	setDefault(&c.MaxFetchBytes, 16<<20)
	setDefault(&c.FetchAheadBytes, 1<<20)
	setDefault(&c.MaxBufferedBytes, 64<<20)
	setDefault(&c.CommitInterval, 250*time.Millisecond)
	setDefault(&c.NackBackoff, 100*time.Millisecond)
	setDefault(&c.MaxNackBackoff, 5*time.Second)
	setDefault(&c.StallAfter, time.Minute)
	setDefault(&c.DrainTimeout, 15*time.Second)
	setDefault(&c.SessionTimeout, 30*time.Second)
	setDefault(&c.RebalanceTimeout, 30*time.Second)
	setDefault(&c.HeartbeatInterval, 3*time.Second)
	setDefault(&c.RevokeBudget, min(c.SessionTimeout, c.RebalanceTimeout)*2/3)
	setDefault(&c.TopicTimeout, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports all faults.
func (c *SubscriberConfig) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Group == "", "Group is required")
	fault(c.MaxBatchRecords < 1 || c.MaxBatchRecords > 100_000, "MaxBatchRecords %d is outside 1 to 100,000", c.MaxBatchRecords)
	fault(c.StartAt != Earliest && c.StartAt != Latest, "StartAt %q: want earliest or latest", c.StartAt)
	fault(c.OnOutOfRange != Earliest && c.OnOutOfRange != Latest && c.OnOutOfRange != Fail,
		"OnOutOfRange %q: want earliest, latest or fail", c.OnOutOfRange)
	for _, b := range []struct {
		name  string
		value int
	}{{"MaxFetchBytes", c.MaxFetchBytes}, {"FetchAheadBytes", c.FetchAheadBytes}, {"MaxBufferedBytes", c.MaxBufferedBytes}} {
		fault(b.value < 1024 || b.value > 1<<30, "%s %d is outside 1 KiB to 1 GiB", b.name, b.value)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"MaxWait", c.MaxWait}, {"CommitInterval", c.CommitInterval}, {"NackBackoff", c.NackBackoff}, {"MaxNackBackoff", c.MaxNackBackoff},
		{"StallAfter", c.StallAfter}, {"DrainTimeout", c.DrainTimeout}, {"SessionTimeout", c.SessionTimeout},
		{"RebalanceTimeout", c.RebalanceTimeout}, {"HeartbeatInterval", c.HeartbeatInterval}, {"RevokeBudget", c.RevokeBudget}, {"TopicTimeout", c.TopicTimeout},
	} {
		fault(d.value < 0, "%s cannot be negative", d.name)
	}
	fault(c.HeartbeatInterval > c.SessionTimeout/3, "HeartbeatInterval %s is more than a third of SessionTimeout %s", c.HeartbeatInterval, c.SessionTimeout)
	fault(c.RevokeBudget > min(c.SessionTimeout, c.RebalanceTimeout)*3/4,
		"RevokeBudget %s is more than three quarters of SessionTimeout %s or RebalanceTimeout %s", c.RevokeBudget, c.SessionTimeout, c.RebalanceTimeout)
	if _, err := c.Connection.open([]string{}, 0); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// Stats returns the totals so far.
func (s *Subscriber) Stats() SubscriberStats {
	c := &s.stats
	return SubscriberStats{
		Generations: c.generations.Load(), Batches: c.batches.Load(), Records: c.records.Load(), Nacks: c.nacks.Load(),
		Abandoned: c.abandoned.Load(), Stalled: c.stalled.Load(), Commits: c.commits.Load(), CommitErrors: c.commitErrors.Load(),
		FetchErrors: c.fetchErrors.Load(), Aborted: c.aborted.Load(), Markers: c.markers.Load(),
		OutOfRange: c.outOfRange.Load(), Skipped: c.skipped.Load(),
	}
}

// Err returns why a subscription ended although nobody asked it to, or nil.
// Watermill knows no way to say so: its router merely stops, without an error.
func (s *Subscriber) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Subscribe waits until topic exists (a [*TopicMissingError] if it does not in
// time), joins the group and returns the channel of its messages: micro-batches
// (see [pipeline.BatchOf]), or single records with PlainMessages. The channel is
// closed after ctx is done or Close is called and what was in flight is finished
// or given up, or when the offset policy says to fail (see Err).
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	l, err := s.cfg.Connection.open([]string{topic}, coordinatorTimeout)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	soft, leave := context.WithCancel(ctx)
	sub := &subscription{
		cfg: &s.cfg, stats: &s.stats, link: l, topic: topic,
		// No capacity: a batch is either being worked on or still in its lane.
		out: make(chan *message.Message),
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		leave()
		return nil, fmt.Errorf("subscribe to %s: %w", topic, ErrClosed)
	}
	s.closers[sub] = leave
	s.running.Add(1)
	s.mu.Unlock()

	end := func(err error) {
		leave()
		l.close()
		s.mu.Lock()
		delete(s.closers, sub)
		if s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
		close(sub.out)
		s.running.Done()
	}
	if err := sub.awaitTopic(soft); err != nil {
		end(nil)
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	go func() {
		// Values of ctx reach the messages, its end does not.
		end(sub.run(soft, context.WithoutCancel(ctx)))
	}()
	return sub.out, nil
}

// Close ends all subscriptions: fetching stops at once; batches in flight have
// DrainTimeout to be acked; what is finished is committed, the group left, and
// the channels closed. It waits for all that. Further calls wait as well.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, leave := range s.closers {
		leave()
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// subscription is one topic being read.
type subscription struct {
	cfg   *SubscriberConfig
	stats *subscriberCounters
	link  *link
	topic string
	out   chan *message.Message
}

// awaitTopic waits for the topic, for at most TopicTimeout. It does not create
// it. A group must not be joined before: kafka-go would hand out an assignment
// of nothing, for good.
func (s *subscription) awaitTopic(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, s.cfg.TopicTimeout)
	defer cancel()
	for pause := (backoff{min: 50 * time.Millisecond}); ; {
		_, err := countPartitions(wait, s.link, s.topic)
		if err == nil || classify(err) == classFatal {
			return err
		}
		if pause.next == 0 {
			s.cfg.Logger.Info("waiting for topic", slog.String("topic", s.topic), slog.Any("error", err))
		}
		if !pause.wait(wait) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("waited %s: %w", s.cfg.TopicTimeout, err)
		}
	}
}

// leaveTimeout bounds leaving the group; after it connections are cut.
const leaveTimeout = 5 * time.Second

// run is the membership: one generation after the other until soft is done.
// Work in flight then has DrainTimeout.
func (s *subscription) run(soft, values context.Context) error {
	hard, giveUp := context.WithCancelCause(values)
	defer giveUp(nil)
	var drain *time.Timer
	drain = time.AfterFunc(time.Hour, func() { giveUp(errDrained) })
	drain.Stop()
	defer drain.Stop()
	defer context.AfterFunc(soft, func() { drain.Reset(s.cfg.DrainTimeout) })()

	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                    s.cfg.Group,
		Brokers:               s.cfg.Connection.Brokers,
		Dialer:                s.link.dialer,
		Topics:                []string{s.topic},
		HeartbeatInterval:     s.cfg.HeartbeatInterval,
		SessionTimeout:        s.cfg.SessionTimeout,
		RebalanceTimeout:      s.cfg.RebalanceTimeout,
		WatchPartitionChanges: true,
		JoinGroupBackoff:      time.Second,
		Timeout:               coordinatorTimeout,
	})
	if err != nil {
		return fmt.Errorf("join group: %w", err)
	}
	defer func() {
		cut := time.AfterFunc(leaveTimeout, s.link.wire.cut)
		defer cut.Stop()
		_ = group.Close()
	}()
	for failing := false; ; {
		gen, err := group.Next(soft)
		if soft.Err() != nil {
			return nil
		}
		if err != nil {
			if !failing {
				failing = true
				s.cfg.Logger.Warn("cannot join the group, repeating", slog.String("group", s.cfg.Group), slog.Any("error", err))
			}
			continue
		}
		failing = false
		if err := s.serve(soft, hard, gen); err != nil {
			return err
		}
		if soft.Err() != nil {
			return nil
		}
	}
}

// serve works through one generation.
func (s *subscription) serve(soft, hard context.Context, gen *kafka.Generation) error {
	s.stats.generations.Add(1)
	var ids []int
	for _, a := range gen.Assignments[s.topic] {
		ids = append(ids, a.ID)
	}
	s.cfg.Logger.Info("joined the group", slog.String("group", s.cfg.Group), slog.String("topic", s.topic),
		slog.Int("generation", int(gen.ID)), slog.Any("partitions", ids))
	g := &generation{cfg: s.cfg, stats: s.stats, link: s.link, topic: s.topic, out: s.out, gen: gen}
	finished := make(chan error, 1) // capacity 1: written once, and read once
	gen.Start(func(term context.Context) {
		finished <- g.run(term, soft, hard)
		// The generation ends when this returns: not before the group is left, or
		// kafka-go would join the next one.
		<-term.Done()
	})
	return <-finished
}
