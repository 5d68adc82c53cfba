package cmab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"sortition/decision"
)

// A call is one prediction on its way through cache and service.
type call struct {
	p    *Predictor
	q    *decision.PredictionQuery
	a    *attributes
	key  Key
	hash Hash
}

// predict follows the options' order of precedence. how counts the way the answer
// came. Source: cmab.md CM-7.
func (c *call) predict(ctx context.Context) (answer decision.Prediction, how *atomic.Uint64, err error) {
	if c.q.Options.Has(decision.IgnoreCMABCache) {
		// Nothing is read, written or removed, and the answer is nobody else's.
		answer, err = c.p.fetch(ctx, c.q, c.a)
		return answer, &c.p.counters.fetched, err
	}
	// A request that began before a reset or an invalidation can't answer for after it.
	isFresh := c.q.Options&(decision.ResetCMABCache|decision.InvalidateUserCMABCache) != 0
	for {
		f, isMine := c.p.flights.board(c.key, c.hash)
		if isMine {
			return c.lead(ctx, f)
		}
		select {
		case <-f.landed:
		case <-ctx.Done():
			return answer, nil, fmt.Errorf("await prediction for rule %s: %w", c.q.RuleID, endOf(ctx))
		}
		if f.isAnswered && f.hash == c.hash && !isFresh {
			return f.answer, &c.p.counters.shared, f.err
		}
	}
}

// lead answers for everybody on the flight.
func (c *call) lead(ctx context.Context, f *flight) (answer decision.Prediction, how *atomic.Uint64, err error) {
	defer c.p.flights.land(c.key, f)
	how = &c.p.counters.fetched
	if c.q.Options.Has(decision.ResetCMABCache) {
		c.tolerate(c.p.cache.Reset(ctx))
	}
	if c.q.Options.Has(decision.InvalidateUserCMABCache) {
		c.tolerate(c.p.cache.Remove(ctx, c.key))
	}
	answer, ok := c.lookup(ctx)
	if ok {
		how = &c.p.counters.hits
	} else {
		answer, err = c.p.fetch(ctx, c.q, c.a)
		if err == nil {
			c.save(ctx, answer)
		}
	}
	// If the one who asked has gone, that says nothing of the service: the others
	// ask for themselves.
	hasGone := err != nil && ctx.Err() != nil && !errors.Is(endOf(ctx), ErrBudget)
	f.answer, f.err, f.isAnswered = answer, err, !hasGone
	return answer, how, err
}

// lookup returns the cached prediction for the same attributes, and removes one
// for others. Source: cmab.md CM-7 rows 4 and 5.
func (c *call) lookup(ctx context.Context) (decision.Prediction, bool) {
	e, ok, err := c.p.cache.Lookup(ctx, c.key)
	switch {
	case err != nil:
		c.tolerate(err)
	case ok && e.AttributesHash == c.hash:
		return decision.Prediction{VariationID: e.VariationID, UUID: e.UUID}, true
	case ok:
		c.tolerate(c.p.cache.Remove(ctx, c.key))
	}
	return decision.Prediction{}, false
}

// save keeps a prediction that is of use to the rule. Source: cmab.md CM-P1.
func (c *call) save(ctx context.Context, answer decision.Prediction) {
	if !c.q.HasVariation(answer.VariationID) {
		c.p.counters.unknown.Add(1)
		return
	}
	// The caller's strings are valid during the call only.
	e := Entry{AttributesHash: c.hash, VariationID: answer.VariationID, UUID: strings.Clone(answer.UUID)}
	c.tolerate(c.p.cache.Save(ctx, c.key.clone(), e))
}

func (c *call) tolerate(err error) {
	if err != nil {
		c.p.counters.cacheErrors.Add(1)
	}
}

// Flights are the requests under way, one for each user and rule at most.
// Source: cmab.md CM-10, CM-P2.
type flights struct {
	mu    sync.Mutex // guards byKey; held for a moment only
	byKey map[Key]*flight
}

// A flight is a request that others may wait for. Its answer is written before it
// lands and never after.
type flight struct {
	hash       Hash
	landed     chan struct{} // never sent on; closed at the end
	isAnswered bool          // false: it was given up, or its caller panicked
	answer     decision.Prediction
	err        error
}

// board returns the flight for k, a new one if there is none; then it is the
// caller's to lead and to land.
func (s *flights) board(k Key, h Hash) (f *flight, isMine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.byKey[k]; ok {
		return f, false
	}
	if s.byKey == nil {
		s.byKey = map[Key]*flight{}
	}
	f = &flight{hash: h, landed: make(chan struct{})}
	s.byKey[k] = f // k's strings are valid until its leader lands it
	return f, true
}

func (s *flights) land(k Key, f *flight) {
	s.mu.Lock()
	delete(s.byKey, k)
	s.mu.Unlock()
	close(f.landed)
}
