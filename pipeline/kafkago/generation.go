package kafkago

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/segmentio/kafka-go"
)

// errRevoked is the cause of abandoned batches whose partition is being taken
// away.
var errRevoked = errors.New("the partition is revoked and the time to finish is over")

// errDrained is the cause of abandoned batches at shutdown.
var errDrained = errors.New("the subscription is closing and the time to finish is over")

// generation is one membership term: the partitions assigned to us until the
// next rebalance, and the only right to commit their offsets.
type generation struct {
	cfg   *SubscriberConfig
	stats *subscriberCounters
	link  *link
	topic string
	out   chan<- *message.Message
	gen   *kafka.Generation
	lanes []*lane
	shown *atomic.Pointer[[]*lane] // lanes, for those who ask from outside

	refused bool // the last commit was; belongs to whoever commits
}

// run works until term ends (the partitions are revoked) or soft is done (we
// want to leave): it stops fetching, waits for what is in flight, at most for the
// revocation budget or until hard is done, and commits what is finished. The
// membership itself lasts until term ends: as long as it does, heartbeats go on.
func (g *generation) run(term, soft, hard context.Context) error {
	stop, halt := context.WithCancel(soft)
	defer halt()
	defer context.AfterFunc(term, halt)()

	abandon, giveUp := context.WithCancelCause(hard)
	defer giveUp(nil)
	budget := time.AfterFunc(time.Hour, func() { giveUp(errRevoked) })
	budget.Stop()
	defer budget.Stop()
	defer context.AfterFunc(term, func() { budget.Reset(g.cfg.RevokeBudget) })()

	assigned := g.gen.Assignments[g.topic]
	if len(assigned) == 0 {
		<-stop.Done()
		return nil
	}
	wake := make(chan struct{}, 1) // capacity 1: "some lane has room" needs saying once
	if ok, err := g.begin(stop, assigned, wake); !ok {
		return err
	}
	g.shown.Store(&g.lanes)
	defer g.shown.Store(nil)

	dirty := make(chan struct{}, 1) // capacity 1: "something to commit" needs saying once
	d := &deliverer{cfg: g.cfg, stats: g.stats, out: g.out, dirty: dirty}
	f := newFetcher(g.cfg, g.stats, g.link, g.topic, g.lanes, wake)

	var lanes, others sync.WaitGroup
	for _, l := range g.lanes {
		lanes.Go(func() { d.run(stop, abandon, l) })
	}
	var fatal error
	others.Go(func() {
		if fatal = f.run(stop); fatal != nil {
			halt()
		}
	})
	finished := make(chan struct{})
	others.Go(func() { g.commitWhenDirty(dirty, finished) })
	others.Go(func() { g.watchEnds(stop) })

	lanes.Wait()
	close(finished)
	others.Wait()
	g.commit()
	return fatal
}

// begin resolves where the partitions start, repeating until it is known or stop
// is done (then it is not ok, without an error), and makes the lanes.
func (g *generation) begin(stop context.Context, assigned []kafka.PartitionAssignment, wake chan<- struct{}) (ok bool, err error) {
	for pause := (backoff{min: 100 * time.Millisecond}); ; {
		starts, ends, moved, err := g.startOffsets(stop, assigned)
		if isFatalOffset(err) {
			return false, err
		}
		if err == nil {
			for _, a := range assigned {
				p := int32(a.ID)
				l := newLane(g.topic, p, starts[p], wake)
				l.committed.Store(a.Offset)
				l.ended(ends[p])
				g.lanes = append(g.lanes, l)
			}
			if len(moved) > 0 {
				g.commit()
			}
			return true, nil
		}
		if stop.Err() != nil {
			return false, nil
		}
		if pause.next == 0 {
			g.cfg.Logger.Warn("cannot look up where to start, repeating", slog.String("topic", g.topic), slog.Any("error", err))
		}
		if !pause.wait(stop) {
			return false, nil
		}
	}
}

// commitWhenDirty commits soon after there is something new, at most once an
// interval, until finished is closed. What a commit did not store the next one does,
// whether or not anything is new by then.
func (g *generation) commitWhenDirty(dirty chan struct{}, finished <-chan struct{}) {
	timer := time.NewTimer(g.cfg.CommitInterval)
	defer timer.Stop()
	for {
		select {
		case <-dirty:
		case <-finished:
			return
		}
		timer.Reset(g.cfg.CommitInterval)
		select {
		case <-timer.C:
		case <-finished:
			return
		}
		if !g.commit() {
			notify(dirty)
		}
	}
}

// commit stores the highest contiguous offset of every lane that has moved, in
// one request, through this generation: once the group has gone on without us,
// the coordinator (or the closed connection) refuses it. It returns false if
// something could not be stored.
func (g *generation) commit() (ok bool) {
	offsets := map[int]int64{}
	for _, l := range g.lanes {
		if at := l.offsets.committable(); at != l.committed.Load() {
			offsets[int(l.partition)] = at
		}
	}
	if len(offsets) == 0 {
		return true
	}
	if err := g.gen.CommitOffsets(map[string]map[int]int64{g.topic: offsets}); err != nil {
		g.stats.commitErrors.Add(1)
		if !g.refused {
			g.cfg.Logger.Warn("commit refused, repeating: after a crash finished batches would be repeated", slog.String("topic", g.topic),
				slog.Int("generation", int(g.gen.ID)), slog.Int("partitions", len(offsets)), slog.Any("error", err))
		}
		g.refused = true
		return false
	}
	g.refused = false
	g.stats.commits.Add(1)
	for _, l := range g.lanes {
		if at, ok := offsets[int(l.partition)]; ok {
			l.committed.Store(at)
		}
	}
	return true
}
