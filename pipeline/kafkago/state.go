package kafkago

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// PartitionLag is how far the group is in one partition that we own.
type PartitionLag struct {
	Topic     string
	Partition int32
	Committed int64 // the group's offset as we know it; -1: none yet
	Done      int64 // offset below which everything is acked; soon committed
	End       int64 // offset after the last record, open transactions included
}

// Lag is how many offsets are not committed yet. It is never negative, and at most
// some seconds old. (Transaction markers and gaps of compaction count too: Kafka
// knows no better.)
func (p PartitionLag) Lag() int64 {
	from := p.Committed
	if from < 0 {
		from = p.Done
	}
	return max(0, p.End-from)
}

// Lags returns a line for every partition that is assigned at the moment, in order
// of topic and partition. It asks nobody: ends come with the answers to fetches,
// and are looked up for partitions that are not being fetched.
func (s *Subscriber) Lags() []PartitionLag {
	var lags []PartitionLag
	for _, l := range s.lanes() {
		// The end is read last: it only grows, so no lag comes out negative.
		lag := PartitionLag{Topic: l.topic, Partition: l.partition, Committed: l.committed.Load(), Done: l.offsets.committable()}
		lag.End = l.end.Load()
		lags = append(lags, lag)
	}
	slices.SortFunc(lags, func(a, b PartitionLag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return lags
}

// SubscriberState is what the Subscriber is doing at one moment.
type SubscriberState struct {
	// Subscriptions are the topics being read; Assigned is the number of their
	// partitions that are ours. Zero for longer than a rebalance takes means that
	// this process does nothing: there are more members than partitions, or the
	// topic was deleted.
	Subscriptions int
	Assigned      int
	// Buffered is the memory held by records waiting or in flight, in bytes.
	Buffered int64
	// InFlight are the batches handed out and not yet acked or nacked;
	// OldestInFlight is since when the oldest one is out, zero without one. A
	// handler that is stuck shows here.
	InFlight       int
	OldestInFlight time.Time
	// LastFetch is when a broker last answered a fetch without an error, LastAck
	// when a batch was last acked. Zero: not since the Subscriber was made.
	LastFetch time.Time
	LastAck   time.Time
}

// State returns what the Subscriber is doing. It asks nobody.
func (s *Subscriber) State() SubscriberState {
	state := SubscriberState{LastFetch: fromNanos(s.stats.lastFetch.Load()), LastAck: fromNanos(s.stats.lastAck.Load())}
	s.mu.Lock()
	state.Subscriptions = len(s.closers)
	s.mu.Unlock()
	for _, l := range s.lanes() {
		state.Assigned++
		state.Buffered += l.held.Load()
		if since := fromNanos(l.outSince.Load()); !since.IsZero() {
			state.InFlight++
			if state.OldestInFlight.IsZero() || since.Before(state.OldestInFlight) {
				state.OldestInFlight = since
			}
		}
	}
	return state
}

// lanes returns the lanes of all subscriptions' present generations.
func (s *Subscriber) lanes() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lanes []*lane
	for sub := range s.closers {
		if own := sub.lanes.Load(); own != nil {
			lanes = append(lanes, *own...)
		}
	}
	return lanes
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// endsInterval is how old the end of a partition may get.
const endsInterval = 5 * time.Second

// watchEnds looks up the ends of partitions that no fetch has told anything about
// for a while, until stop is done. Those are the ones that are stuck: their lag is
// the one that matters most, and would otherwise stand still.
func (g *generation) watchEnds(stop context.Context) {
	tick := time.NewTicker(endsInterval / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.lookUpEnds(stop, time.Now().Add(-endsInterval/2))
		case <-stop.Done():
			return
		}
	}
}

// lookUpEnds asks for the ends of the lanes not heard of since old. A failure
// leaves them as they are: fetching complains about the broker.
func (g *generation) lookUpEnds(stop context.Context, old time.Time) {
	byPartition := map[int32]*lane{}
	var partitions []int32
	for _, l := range g.lanes {
		if fromNanos(l.heard.Load()).Before(old) {
			partitions = append(partitions, l.partition)
			byPartition[l.partition] = l
		}
	}
	if len(partitions) == 0 {
		return
	}
	_, ends, err := g.link.logRange(stop, g.topic, partitions)
	if err != nil {
		return
	}
	for p, end := range ends {
		byPartition[p].ended(end)
	}
}

// nowNanos is the time as the state keeps it.
func nowNanos() int64 { return time.Now().UnixNano() }
