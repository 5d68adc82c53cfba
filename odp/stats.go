package odp

import "sync/atomic"

// counters count what a Segments did.
type counters struct {
	hits, misses, stale, joined, requests, refreshed, resets, opened, closed atomic.Uint64
	failures                                                                 [numClasses]atomic.Uint64
}

func (c *counters) count(r *Result) {
	if r.Err != nil {
		c.failures[ClassOf(r.Err)].Add(1)
	}
}

// Stats are a [Segments]' counters since it was made.
type Stats struct {
	Hits      uint64 // answered from the cache
	Misses    uint64 // not in the cache, too old, or the cache was ignored
	Stale     uint64 // of the misses: answered with an old entry
	Joined    uint64 // of the misses: answered by another's request
	Requests  uint64 // made
	Refreshed uint64 // of those: ahead of the end of an entry
	Resets    uint64 // of the cache, by callers
	Opened    uint64 // times the breaker opened
	Closed    uint64 // times it closed again
	IsOpen    bool   // the breaker is open
	InFlight  int    // requests under way
	// Failures of callers by class; with a stale answer it is none.
	Failures map[Class]uint64
}

// Stats reads the counters. Each is exact; they aren't read in one instant.
func (s *Segments) Stats() Stats {
	c := &s.stats
	out := Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Stale: c.stale.Load(), Joined: c.joined.Load(), Requests: c.requests.Load(),
		Refreshed: c.refreshed.Load(), Resets: c.resets.Load(), Opened: c.opened.Load(), Closed: c.closed.Load(),
		IsOpen: s.breaker.isOpen(), InFlight: len(s.slots), Failures: map[Class]uint64{},
	}
	for class := range c.failures {
		if n := c.failures[class].Load(); n > 0 {
			out.Failures[Class(class)] = n
		}
	}
	return out
}
