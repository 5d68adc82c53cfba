package kafkago

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
)

// Subscriber reads topics as a member of a consumer group, implementing
// Watermill's Subscriber. See the package comment for what it promises. Every
// subscription is a member of its own; give handlers of different topics groups of
// their own, or a rebalance of one pauses the others. Safe for concurrent use.
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

	lastFetch, lastAck atomic.Int64 // ns; 0: never
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
	lanes atomic.Pointer[[]*lane] // of the present generation, nil between two
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

const (
	// leaveTimeout bounds leaving the group; after it connections are cut.
	leaveTimeout = 5 * time.Second
	// idlePause is the least time between generations that have no partitions.
	idlePause = time.Second
)

// run is the membership: one generation after the other until soft is done.
// Work in flight then has DrainTimeout.
func (s *subscription) run(soft, values context.Context) error {
	hard, giveUp := context.WithCancelCause(values)
	defer giveUp(nil)
	drain := time.AfterFunc(time.Hour, func() { giveUp(errDrained) })
	drain.Stop()
	defer drain.Stop()
	defer context.AfterFunc(soft, func() { drain.Reset(s.cfg.DrainTimeout) })()

	var member membership
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
		Logger:                &member,
	})
	if err != nil {
		return fmt.Errorf("join group: %w", err)
	}
	defer func() {
		cut := time.AfterFunc(leaveTimeout, s.link.wire.cut)
		defer cut.Stop()
		_ = group.Close()
		s.leave(&member)
	}()
	idle := false
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
		began := time.Now()
		if err := s.serve(soft, hard, gen, idle); err != nil {
			return err
		}
		// When the topic has been deleted, kafka-go ends every generation as soon
		// as it has begun.
		idle = len(gen.Assignments[s.topic]) == 0
		if idle && time.Since(began) < idlePause {
			(&backoff{min: idlePause}).wait(soft)
		}
		if soft.Err() != nil {
			return nil
		}
	}
}

// leave takes back a membership that kafka-go has left behind.
func (s *subscription) leave(m *membership) {
	id := m.current()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), coordinatorTimeout)
	defer cancel()
	res, err := s.link.client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		GroupID: s.cfg.Group, Members: []kafka.LeaveGroupRequestMember{{ID: id}}})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		s.cfg.Logger.Warn("cannot leave the group: its other members wait for the session to time out",
			slog.String("group", s.cfg.Group), slog.Any("error", err))
	}
}

// membership follows, as its Logger, which member of the group a
// kafka.ConsumerGroup is. When it is closed after joining and a rebalance refuses
// its sync, kafka-go ends without leaving; the member it has been would stall
// everybody's rebalance until its session times out. There is no other way to
// learn its ID: the generation that would tell it is never handed out.
type membership struct {
	mu sync.Mutex // guards id
	id string
}

// Printf implements kafka.Logger.
func (m *membership) Printf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(format, "Joined group") && len(args) > 1:
		m.id, _ = args[1].(string)
	case strings.HasPrefix(format, "Leaving group"):
		m.id = ""
	}
}

func (m *membership) current() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}

// serve works through one generation. wasIdle: the one before had no partitions.
func (s *subscription) serve(soft, hard context.Context, gen *kafka.Generation, wasIdle bool) error {
	s.stats.generations.Add(1)
	var ids []int
	for _, a := range gen.Assignments[s.topic] {
		ids = append(ids, a.ID)
	}
	where := []any{slog.String("group", s.cfg.Group), slog.String("topic", s.topic), slog.Int("generation", int(gen.ID))}
	switch {
	case len(ids) > 0:
		s.cfg.Logger.Info("joined the group", append(where, slog.Any("partitions", ids))...)
	case !wasIdle:
		s.cfg.Logger.Warn("joined the group, but got no partition: idle until the group or the topic changes", where...)
	}
	g := &generation{cfg: s.cfg, stats: s.stats, link: s.link, topic: s.topic, out: s.out, gen: gen, shown: &s.lanes}
	finished := make(chan error, 1) // capacity 1: written once, and read once
	gen.Start(func(term context.Context) {
		finished <- g.run(term, soft, hard)
		// The generation ends when this returns: not before the group is left, or
		// kafka-go would join the next one.
		<-term.Done()
	})
	return <-finished
}
