package odp

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// soakTime is how long the soak goes on: SORTITION_SOAK, such as 60s; else 5 s.
func soakTime(t *testing.T) time.Duration {
	if text := os.Getenv("SORTITION_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		require.NoError(t, err)
		return d
	}
	return 5 * time.Second
}

// soakRate is users a second: SORTITION_SOAK_USERS, else 1,000.
func soakRate(t *testing.T) int {
	if text := os.Getenv("SORTITION_SOAK_USERS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	return 1000
}

// TestSoak sends users at a steady rate through each policy while ODP is slow, hangs,
// answers 500 and rubbish, cuts connections, and recovers, again and again. Every user
// gets a verdict by policy, memory is bounded, no goroutine is left, and the breaker
// opens and closes.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	em := emulator.Start(t, emulator.Options{ODPKey: testKey, MaxAttempts: 100})
	require.NoError(t, em.SetSegmentRule(emulator.SegmentRule{Fraction: 0.5}))
	segments := map[Policy]*Segments{}
	for _, p := range []Policy{Unknown, Stale, Hold, DeadLetter} {
		segments[p] = newSegments(t, integrationOf(em, "vip", "b2"), func(c *Config) {
			c.RequestTimeout, c.CacheSize, c.CacheTimeout = 100*time.Millisecond, 500, 200*time.Millisecond
			c.RefreshAhead, c.BreakerFailures, c.MaxInFlight = 50*time.Millisecond, 20, 32
			if p == Stale {
				c.StaleFor = time.Minute
			}
		})
	}
	before := runtime.NumGoroutine()
	stop := make(chan struct{}) // closed when the time is over
	var faults sync.WaitGroup
	faults.Go(func() { breakThings(t, em, stop) })

	// Batches of 20 users go round the policies.
	const batch = 20
	var sent, known, unknown, refused, stale, mostGoroutines, mostHeap atomic.Int64
	var batches sync.WaitGroup
	slots := make(chan struct{}, 128) // capacity: micro-batches under way, which bounds a stream too
	every := time.Second * batch / time.Duration(soakRate(t))
	timer := time.NewTimer(0)
	defer timer.Stop()
	begin := time.Now()
	end := begin.Add(soakTime(t))
	for n := 0; time.Now().Before(end); n++ {
		timer.Reset(time.Until(begin.Add(time.Duration(n) * every))) // what was held up is made up for
		<-timer.C
		slots <- struct{}{}
		p := Policy(n % 4)
		users := make([]User, batch)
		for i := range users {
			users[i].Value = fmt.Sprint("user-", (n*7+i*i*131)%2000)
		}
		sent.Add(batch)
		batches.Go(func() {
			defer func() { <-slots }()
			out, err := segments[p].Resolve(t.Context(), users, p, time.Second)
			if err != nil || len(out) != batch {
				t.Errorf("%v: %d resolutions, %v", p, len(out), err)
				return
			}
			for _, r := range out {
				switch {
				case r.Verdict == DecideKnown && r.Segments != nil && r.Err == nil:
					known.Add(1)
				case r.Verdict == DecideUnknown && r.Err != nil && p != DeadLetter:
					unknown.Add(1)
				case r.Verdict == Refuse && r.Err != nil && p == DeadLetter:
					refused.Add(1)
				default:
					t.Errorf("%v: verdict %v with %v", p, r.Verdict, r.Err)
				}
				if r.Source == FromStale {
					stale.Add(1)
				}
			}
		})
		if n%25 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			mostHeap.Store(max(mostHeap.Load(), int64(m.HeapAlloc))) //nolint:gosec // far from 2^63
			mostGoroutines.Store(max(mostGoroutines.Load(), int64(runtime.NumGoroutine())))
		}
	}
	rate := float64(sent.Load()) / time.Since(begin).Seconds()
	close(stop)
	faults.Wait()
	em.ClearFaults()
	batches.Wait() // those on hold, too: ODP answers again
	require.Equal(t, sent.Load(), known.Load()+unknown.Load()+refused.Load(), "every user is accounted for")
	for p, s := range segments {
		require.Eventually(t, func() bool {
			return s.Fetch(context.Background(), User{Value: "last"}, IgnoreCache).Err == nil
		}, 40*time.Second, 50*time.Millisecond, "the breaker closes")
		st := s.Stats()
		require.Positive(t, st.Opened, "%v", p)
		require.Positive(t, st.Closed, "%v", p)
		require.LessOrEqual(t, s.store.(*LRU).Len(), 500)
		s.Close()
		require.Empty(t, s.slots)
		require.Empty(t, s.flights)
	}
	require.Less(t, mostHeap.Load(), int64(200<<20))
	require.Less(t, mostGoroutines.Load(), int64(before+128*33+4*32*4+500))
	t.Logf("%d users, %.0f a second: %d known, of those %d stale; %d unknown, %d refused; most goroutines %d, most heap %d MiB",
		sent.Load(), rate, known.Load(), stale.Load(), unknown.Load(), refused.Load(), mostGoroutines.Load(), mostHeap.Load()>>20)
}

// breakThings lets one fault follow the other, with recoveries between.
func breakThings(t *testing.T, em *emulator.Server, stop chan struct{}) {
	route := string(emulator.RouteSegments)
	list := []emulator.Fault{
		{Route: route, Status: 500},
		{Route: route, Delay: 50 * time.Millisecond},
		{Route: route, Hang: true},
		{Route: route, BrokenJSON: true},
		{Route: route, Cut: emulator.CutAfter},
		{Route: route, Fraction: 0.5, Seed: 1, Cut: emulator.CutReply},
		{Route: route, Status: 429, RetryAfter: "1"},
	}
	ticker := time.NewTicker(350 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%2 == 0 {
			if _, err := em.AddFault(list[n/2%len(list)]); err != nil {
				t.Errorf("%v", err)
			}
		} else {
			em.ClearFaults()
		}
		for range 1 + n%2*5 { // recoveries are longer, so that the breaker's pause ends in them
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}
}
