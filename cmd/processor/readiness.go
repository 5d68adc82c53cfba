package main

import (
	"sync"
	"time"

	"sortition/pipeline/kafkago"
)

const (
	// fetchAheadBytes and maxBufferedBytes are what a subscriber holds of a partition,
	// and of all together, before it stops fetching.
	fetchAheadBytes  = 1 << 20
	maxBufferedBytes = 64 << 20
	// minFetchPatience is a few times what the slowest fetch takes that still succeeds:
	// brokers hold idle ones for half a second, and may take 15 s longer.
	minFetchPatience = 45 * time.Second
	// rebalanceSlack is for joining, after a session that ended.
	rebalanceSlack = 15 * time.Second
)

// fetchPatience is how long a stream counts as ready without an answer to a fetch. A
// rebalance, which takes a session at most, is no reason to send nobody there.
func (p *streamParts) fetchPatience() time.Duration {
	return max(minFetchPatience, p.subscriber.SessionTimeout+rebalanceSlack)
}

// A fetchWatch tells from what a subscriber shows whether it still works. It is safe for
// concurrent use.
//
// Brokers answer idle fetches too, so that the last answer is recent while all is well.
// Not so while nothing needs fetching (as when what is delivered to is away, and as much
// as may be is held), nor when partitions are new; these moments are remembered, since
// the answer takes a while after them.
type fetchWatch struct {
	patience time.Duration

	mu            sync.Mutex // guards what follows
	generations   uint64     // times the group was joined, when last looked
	hasPartitions bool       // of the generation: some were seen
	excused       time.Time  // when there was last a reason not to fetch
}

// look tells what the subscriber lacks now: "membership" of its group, "answers to
// fetches", "" nothing. The generations must have been counted before the state was
// taken, so that no state is held for that of a later generation. It believes a member
// that never had partitions in its generation to be one as long as the process lives:
// there is nothing to tell it by.
func (w *fetchWatch) look(generations uint64, state *kafkago.SubscriberState, now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if generations == 0 {
		return "membership"
	}
	if generations != w.generations {
		w.generations, w.hasPartitions, w.excused = generations, false, now
	}
	isAssigned := state.Assigned > 0
	w.hasPartitions = w.hasPartitions || isAssigned
	// When every partition is full, or each has something and together they are, then
	// this much is held at least.
	isFull := isAssigned && state.Buffered >= min(int64(state.Assigned)*fetchAheadBytes, maxBufferedBytes)
	if isFull || !w.hasPartitions {
		w.excused = now
	}
	last := w.excused
	if state.LastFetch.After(last) {
		last = state.LastFetch
	}
	switch {
	case now.Sub(last) <= w.patience:
		return ""
	case !isAssigned:
		return "membership" // the generation that had partitions is over, and no other began
	}
	return "answers to fetches"
}
