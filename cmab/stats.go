package cmab

import (
	"errors"
	"sync/atomic"
)

// Stats are totals since the Predictor was made. Every call ends as exactly one of
// Hits, Shared, Fetched and Failures.
type Stats struct {
	Calls    uint64 // predictions asked for
	Hits     uint64 // answered by the cache
	Shared   uint64 // answered by another caller's request
	Fetched  uint64 // answered by a request of their own
	Failures uint64 // not answered; each is one of the next five too

	Budget    uint64 // the time was up (CM-P7)
	BadStatus uint64 // the service answered with another status than 2xx
	BadReply  uint64 // the service answered something else than a prediction
	Network   uint64 // the service couldn't be reached, or an attempt took too long
	Ended     uint64 // the caller's own context had ended

	Requests     uint64 // HTTP requests made, repetitions included
	Retries      uint64 // of those, repetitions
	Unknown      uint64 // fetched ids that the rule doesn't have; not cached (CM-P1)
	CacheErrors  uint64 // failures of a cache of one's own; each is a miss, or an entry not kept
	DroppedTypes uint64 // attribute values the service can't take, left out (CM-P4)
}

type counters struct {
	calls, hits, shared, fetched, failures               atomic.Uint64
	budget, badStatus, badReply, network, ended          atomic.Uint64
	requests, retries, unknown, cacheErrors, droppedType atomic.Uint64
}

// failed counts a failure by its class.
func (c *counters) failed(err error, hasEnded bool) {
	class := &c.network
	status := (*StatusError)(nil)
	switch {
	case errors.Is(err, ErrBudget):
		class = &c.budget
	case hasEnded:
		class = &c.ended
	case errors.As(err, &status):
		class = &c.badStatus
	case errors.Is(err, ErrInvalidReply):
		class = &c.badReply
	}
	class.Add(1)
	c.failures.Add(1)
}

// Stats returns the totals so far. Safe for concurrent use.
func (p *Predictor) Stats() Stats {
	c := &p.counters
	return Stats{
		Calls: c.calls.Load(), Hits: c.hits.Load(), Shared: c.shared.Load(), Fetched: c.fetched.Load(), Failures: c.failures.Load(),
		Budget: c.budget.Load(), BadStatus: c.badStatus.Load(), BadReply: c.badReply.Load(), Network: c.network.Load(), Ended: c.ended.Load(),
		Requests: c.requests.Load(), Retries: c.retries.Load(), Unknown: c.unknown.Load(),
		CacheErrors: c.cacheErrors.Load(), DroppedTypes: c.droppedType.Load(),
	}
}
