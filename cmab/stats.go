package cmab

import "sync/atomic"

// Stats are totals since the Predictor was made. Every call ends as exactly one of
// Hits, Shared, Fetched and Failures.
type Stats struct {
	Calls    uint64 // predictions asked for
	Hits     uint64 // answered by the cache
	Shared   uint64 // answered by another caller's request
	Fetched  uint64 // answered by a request of their own
	Failures uint64 // not answered

	Requests     uint64 // HTTP requests made, repetitions included
	Retries      uint64 // of those, repetitions
	Budget       uint64 // failures because the time was up (CM-P7)
	Unknown      uint64 // fetched ids that the rule doesn't have; not cached (CM-P1)
	CacheErrors  uint64 // failures of a cache of one's own; each is a miss, or an entry not kept
	DroppedTypes uint64 // attribute values the service can't take, left out (CM-P4)
}

type counters struct {
	calls, hits, shared, fetched, failures                       atomic.Uint64
	requests, retries, budget, unknown, cacheErrors, droppedType atomic.Uint64
}

// Stats returns the totals so far. Safe for concurrent use.
func (p *Predictor) Stats() Stats {
	c := &p.counters
	return Stats{
		Calls: c.calls.Load(), Hits: c.hits.Load(), Shared: c.shared.Load(), Fetched: c.fetched.Load(), Failures: c.failures.Load(),
		Requests: c.requests.Load(), Retries: c.retries.Load(), Budget: c.budget.Load(), Unknown: c.unknown.Load(),
		CacheErrors: c.cacheErrors.Load(), DroppedTypes: c.droppedType.Load(),
	}
}
