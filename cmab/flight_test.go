package cmab

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// Callers who meet, and time: in bubbles, on a service without a network.

// A transport answers in a bubble: n is the number of the request, from 1.
type transport func(ctx context.Context, n int) (*http.Response, error)

type bubbled struct {
	*program
	mu    sync.Mutex
	times []time.Time
}

func (b *bubbled) RoundTrip(r *http.Request, answer transport) (*http.Response, error) {
	b.mu.Lock()
	b.times = append(b.times, time.Now())
	n := len(b.times)
	b.mu.Unlock()
	return answer(r.Context(), n)
}

// gaps are the times between requests.
func (b *bubbled) gaps() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	gaps := []time.Duration{}
	for i := 1; i < len(b.times); i++ {
		gaps = append(gaps, b.times[i].Sub(b.times[i-1]))
	}
	return gaps
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func bubble(t *testing.T, change func(*Config), answer transport, f func(*testing.T, *bubbled)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubbled{program: &program{t: t}}
		var err error
		b.project, err = decision.Compile(datafile(10000, `"501","502"`))
		require.NoError(t, err)
		c := DefaultConfig()
		c.Client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return b.RoundTrip(r, answer) })}
		if change != nil {
			change(&c)
		}
		b.Predictor, err = New(c)
		require.NoError(t, err)
		b.env.Predictor = b.Predictor
		f(t, b)
	})
}

func respond(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{}}, nil
}

// after answers when the time has passed, or the request is given up.
func after(d time.Duration, status int) transport {
	return func(ctx context.Context, _ int) (*http.Response, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(d):
			return respond(status, "")
		}
	}
}

func TestBudget(t *testing.T) { // CM-P7
	for name, c := range map[string]struct {
		change   func(*Config)
		answer   transport
		takes    time.Duration
		isBudget bool
		requests uint64
	}{
		"hangs":                         {nil, after(time.Hour, 200), 2 * time.Second, true, 1},
		"fails slowly, then hangs":      {nil, after(1500*time.Millisecond, 500), 2 * time.Second, true, 2},
		"no time for a wait":            {nil, after(1950*time.Millisecond, 500), 1950 * time.Millisecond, false, 1},
		"of one's own":                  {func(c *Config) { c.Budget = time.Minute }, after(time.Hour, 200), 20*time.Second + 100*time.Millisecond, false, 2},
		"none: CM-19":                   {func(c *Config) { c.Budget = 0 }, after(time.Hour, 200), 20*time.Second + 100*time.Millisecond, false, 2},
		"an attempt may be shorter":     {func(c *Config) { c.AttemptTimeout = 300 * time.Millisecond }, after(time.Hour, 200), 700 * time.Millisecond, false, 2},
		"without retries, failed early": {func(c *Config) { c.MaxRetries = 0 }, after(time.Second, 500), time.Second, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.change, c.answer, func(t *testing.T, b *bubbled) {
				began := time.Now()
				_, err := b.ask(t, "u1", gold)
				assert.Equal(t, c.takes, time.Since(began))
				assert.Equal(t, c.isBudget, errors.Is(err, ErrBudget), "%v", err)
				s := b.Stats()
				assert.Equal(t, c.requests, s.Requests)
				assert.Equal(t, uint64(1), s.Failures)
				if c.isBudget {
					assert.Equal(t, uint64(1), s.Budget)
				} else {
					assert.Zero(t, s.Budget)
				}
			})
		})
	}
}

func TestBackoff(t *testing.T) { // CM-P6
	ms := time.Millisecond
	for name, c := range map[string]struct {
		change func(*Config)
		want   []time.Duration
	}{
		"default": {func(*Config) {}, []time.Duration{100 * ms}},
		"four":    {func(c *Config) { c.MaxRetries, c.InitialBackoff = 4, 50*ms }, []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms}},
		"capped":  {func(c *Config) { c.MaxRetries, c.MaxBackoff = 4, 250*ms }, []time.Duration{100 * ms, 200 * ms, 250 * ms, 250 * ms}},
		"none":    {func(c *Config) { c.MaxRetries = 0 }, []time.Duration{}},
		"many":    {func(c *Config) { c.MaxRetries, c.InitialBackoff, c.MaxBackoff = 3, 0, 0 }, []time.Duration{0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.change, after(0, 503), func(t *testing.T, b *bubbled) {
				d, _ := b.decide("u1", gold)
				assert.Equal(t, decision.CMABFetchFailed, d.Err())
				assert.Equal(t, c.want, b.gaps())
			})
		})
	}
}

// A slow prediction holds up nobody else: CM-P2.
func TestStrangersDontWait(t *testing.T) {
	hold := make(chan struct{})
	slow := variation("50011")
	slow.wait = hold
	p := start(t, nil, slow, variation("50012"))
	var all sync.WaitGroup
	all.Go(func() { p.gets("reco_a", "slow", gold) })
	until(t, func() bool { return len(p.service.all()) == 1 })
	p.gets("reco_b", "another", gold)
	p.gets("reco_b", "slow2", gold)
	close(hold)
	all.Wait()
}

// Callers of one user with other attributes take their turn: CM-10.
func TestOtherAttributesTakeTurns(t *testing.T) {
	hold := make(chan struct{})
	first := variation("50011")
	first.wait = hold
	p := start(t, nil, first, variation("50012"))
	var all sync.WaitGroup
	all.Go(func() { p.gets("reco_a", "u1", gold) })
	until(t, func() bool { return len(p.service.all()) == 1 })
	all.Go(func() { p.gets("reco_b", "u1", nil) })
	until(t, func() bool { return p.Stats().Calls == 2 })
	p.posted(1)
	close(hold)
	all.Wait()
	p.posted(2)
	p.gets("reco_b", "u1", nil)
	p.posted(2)
}

// A reset, or an invalidation, isn't answered by a request that began before it.
func TestResetDoesNotShare(t *testing.T) {
	for _, o := range []decision.Options{decision.ResetCMABCache, decision.InvalidateUserCMABCache} {
		hold := make(chan struct{})
		first := variation("50011")
		first.wait = hold
		p := start(t, nil, first, variation("50012"))
		var all sync.WaitGroup
		all.Go(func() { p.gets("reco_a", "u1", gold) })
		until(t, func() bool { return len(p.service.all()) == 1 })
		all.Go(func() { p.gets("reco_b", "u1", gold, o) })
		until(t, func() bool { return p.Stats().Calls == 2 })
		close(hold)
		all.Wait()
		p.posted(2)
		p.gets("reco_b", "u1", gold)
		p.posted(2)
	}
}

// If the caller who asks gives up, the ones who waited ask for themselves; if the
// service fails, they share the failure.
func TestLeaderGivesUp(t *testing.T) {
	hold := make(chan struct{})
	first := variation("50011")
	first.wait = hold
	defer close(hold)
	p := start(t, nil, first, variation("50012"))
	ctx, giveUp := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		d, _ := p.decideWith(ctx, "u1", gold)
		assert.Equal(t, decision.CMABFetchFailed, d.Err())
	})
	until(t, func() bool { return len(p.service.all()) == 1 })
	all.Go(func() { p.gets("reco_b", "u1", gold) })
	until(t, func() bool { return p.Stats().Calls == 2 })
	giveUp()
	all.Wait()
	p.posted(2)
	s := p.Stats()
	assert.Equal(t, uint64(1), s.Failures)
	assert.Zero(t, s.Budget)
}

func TestFailureIsShared(t *testing.T) {
	bubble(t, nil, after(time.Second, 400), func(t *testing.T, b *bubbled) {
		began := time.Now()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				d, _ := b.decide("u1", gold)
				assert.Equal(t, decision.CMABFetchFailed, d.Err())
			})
		}
		all.Wait()
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, Stats{Calls: 5, Failures: 5, BadStatus: 5, Requests: 1}, b.Stats())
	})
}

// Who waits for another's request has a budget, and a context, of their own.
func TestWaitersEnd(t *testing.T) {
	bubble(t, func(c *Config) { c.Budget = 0 }, after(5*time.Second, 500), func(t *testing.T, b *bubbled) {
		var all sync.WaitGroup
		all.Go(func() { b.decide("u1", gold) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		d, _ := b.decideWith(ctx, "u1", gold)
		assert.Equal(t, decision.CMABFetchFailed, d.Err())
		assert.Equal(t, time.Second, time.Since(began))
		all.Wait()
	})
}

// A uuid maker that panics takes nobody along.
func TestPanicOfTheLeader(t *testing.T) {
	var calls int
	p := start(t, func(c *Config) {
		c.NewUUID = func(context.Context, *decision.PredictionQuery) string {
			if calls++; calls == 1 {
				panic("no uuid today")
			}
			return "mine"
		}
	}, variation("50012"))
	assert.Panics(t, func() { p.decide("u1", gold) })
	assert.Equal(t, "mine", p.gets("reco_b", "u1", gold))
}

// With a context that has ended the cache answers, or nobody; options take effect.
func TestEndedContextHasTheCache(t *testing.T) {
	p := start(t, nil, variation("50012"))
	uuid := p.gets("reco_b", "u1", gold)
	ctx, end := context.WithCancel(t.Context())
	end()
	d, again := p.decideWith(ctx, "u1", gold)
	assert.Equal(t, decision.NoError, d.Err())
	assert.Equal(t, uuid, again)
	d, _ = p.decideWith(ctx, "u2", gold)
	assert.Equal(t, decision.CMABFetchFailed, d.Err())
	d, _ = p.decideWith(ctx, "u1", gold, decision.InvalidateUserCMABCache)
	assert.Equal(t, decision.CMABFetchFailed, d.Err())
	d, _ = p.decideWith(ctx, "u1", gold)
	assert.Equal(t, decision.CMABFetchFailed, d.Err())
	assert.Equal(t, Stats{Calls: 5, Hits: 1, Fetched: 1, Failures: 3, Ended: 3, Requests: 1}, p.Stats())
}

func TestClassesOfFailures(t *testing.T) {
	p := start(t, func(c *Config) { c.MaxRetries = 0 }, reply{status: 404}, reply{body: "{}"}, reply{isCut: true})
	for range 3 {
		d, _ := p.decide("u1", gold)
		assert.Equal(t, decision.CMABFetchFailed, d.Err())
	}
	assert.Equal(t, Stats{Calls: 3, Failures: 3, BadStatus: 1, BadReply: 1, Network: 1, Requests: 3}, p.Stats())
}
