package sinks_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// A taker is a dispatcher that notes what it gets and when.
type taker struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
	pause time.Duration // how long a dispatch takes
	fail  error
	gate  chan struct{} // nil, or a dispatch waits for a receive; unbuffered so that the test sets the pace
}

func (k *taker) dispatch(ctx context.Context, b sinks.Batch) error {
	if k.gate != nil {
		select {
		case <-k.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-time.After(k.pause):
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, fmt.Sprintf("%v %s", time.Since(k.begin), b.Body))
	return k.fail
}

func (k *taker) taken() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.lines...)
}

// startBatcher runs a batcher in a synctest bubble. end must be called.
func startBatcher(t *testing.T, k *taker, o sinks.BatcherOptions) (b *sinks.Batcher, end func()) {
	t.Helper()
	k.begin = time.Now()
	o.Dispatch = k.dispatch
	if o.OnFailure == nil {
		o.OnFailure = func(_ sinks.Batch, err error) { t.Error(err) }
	}
	b, err := sinks.NewBatcher(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}) // closed when Run has returned
	go func() {
		defer close(done)
		_ = b.Run(ctx)
	}()
	return b, func() {
		cancel()
		<-done
	}
}

func small(text string) sinks.Visitor {
	return sinks.Visitor{Endpoint: "http://e/", Head: []byte("["), Body: []byte(text), ID: text}
}

func TestBatcherAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxAge: 500 * time.Millisecond})
		defer end()
		add := func(text string) { require.NoError(t, b.Add(t.Context(), small(text))) }
		add("1")
		time.Sleep(300 * time.Millisecond)
		add("2")
		time.Sleep(time.Second)
		add("3") // the interval counts from here, not from a clock of its own
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"500ms [1,2]}", "1.8s [3]}"}, k.taken())
		time.Sleep(time.Hour)
		require.Len(t, k.taken(), 2, "an empty batch is never sent")
	})
}

// While a dispatch runs, a batch that is old enough isn't made older by what comes.
func TestBatcherAgeBehindSlowDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{pause: 10 * time.Second}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxAge: time.Second, MaxVisitors: 3})
		defer end()
		add := func(text string) { require.NoError(t, b.Add(t.Context(), small(text))) }
		add("1")
		time.Sleep(2 * time.Second) // dispatched from 1 s to 11 s
		add("2")
		time.Sleep(2 * time.Second)
		add("3")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"11s [1]}", "21s [2]}", "31s [3]}"}, k.taken())
	})
}

func TestBatcherSplits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 3, MaxBytes: 20})
		defer end()
		add := func(endpoint, head, text string) {
			require.NoError(t, b.Add(t.Context(), sinks.Visitor{Endpoint: endpoint, Head: []byte(head), Body: []byte(text)}))
		}
		add("http://a/", "[", "1")
		add("http://b/", "[", "2") // another endpoint
		add("http://b/", "{", "3") // another head
		add("http://b/", "{", "4")
		add("http://b/", "{", "5") // full by count
		add("http://b/", "{", "12345678")
		add("http://b/", "{", "1234567")                 // [20 bytes with this one
		add("http://b/", "{", "8")                       // would be 22
		add("http://b/", "{", strings.Repeat("y", 3000)) // alone, since it is too large
		_, err := b.Close(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{
			"0s [1]}", "0s [2]}", "0s {3,4,5]}", "0s {12345678,1234567]}", "0s {8]}", "0s {" + strings.Repeat("y", 3000) + "]}",
		}, k.taken())
	})
}

// A full batcher makes the caller wait; it also makes what it is filling go.
func TestBatcherBlocksWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{gate: make(chan struct{})}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 2, Capacity: 3, MaxAge: time.Hour})
		defer end()
		for n := range 3 {
			require.NoError(t, b.Add(t.Context(), small(fmt.Sprint(n))))
		}
		added := make(chan error, 1) // 1: the adder can end
		go func() { added <- b.Add(t.Context(), small("3")) }()
		synctest.Wait()
		require.Empty(t, added)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.Add(ctx, small("never")), context.DeadlineExceeded)
		k.gate <- struct{}{}
		require.NoError(t, <-added)
		require.Equal(t, 2, b.Held())
		k.gate <- struct{}{}
		go func() { k.gate <- struct{}{} }()
		remains, err := b.Close(t.Context())
		require.NoError(t, err)
		require.Empty(t, remains)
		require.Equal(t, []string{"1s [0,1]}", "1s [2]}", "1s [3]}"}, k.taken())
	})
}

func TestBatcherFailsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{gate: make(chan struct{})}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 2, Capacity: 2, WhenFull: sinks.Fail})
		defer end()
		for n := range 2 {
			require.NoError(t, b.Add(t.Context(), small(fmt.Sprint(n))))
		}
		require.ErrorIs(t, b.Add(t.Context(), small("2")), sinks.ErrFull)
		k.gate <- struct{}{}
		synctest.Wait()
		require.NoError(t, b.Add(t.Context(), small("3")))
	})
}

// The bound in bytes holds, and what is larger than it still passes alone.
func TestBatcherBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{gate: make(chan struct{})}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 1, MaxBytes: 100, CapacityBytes: 100, WhenFull: sinks.Fail})
		defer end()
		require.NoError(t, b.Add(t.Context(), small(strings.Repeat("x", 200))))
		require.ErrorIs(t, b.Add(t.Context(), small("y")), sinks.ErrFull)
		for range 20 { // the account of bytes comes out even
			k.gate <- struct{}{}
			synctest.Wait()
			require.Zero(t, b.Held())
			require.NoError(t, b.Add(t.Context(), small(strings.Repeat("x", 90))))
			require.ErrorIs(t, b.Add(t.Context(), small("12345678")), sinks.ErrFull)
		}
	})
}

func TestBatcherClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{pause: 2 * time.Second}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 1, Capacity: 3})
		defer end()
		for n := range 3 {
			require.NoError(t, b.Add(t.Context(), small(fmt.Sprint(n))))
		}
		blocked := make(chan error, 1) // 1: the adder can end
		go func() { blocked <- b.Add(t.Context(), small("late")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		remains, err := b.Close(ctx)
		require.ErrorContains(t, err, "2 events not dispatched")
		require.Equal(t, 2500*time.Millisecond, time.Since(k.begin))
		require.Len(t, remains, 2, "the one under way included")
		require.Equal(t, "[1]}", string(remains[0].Body))
		require.ErrorIs(t, <-blocked, sinks.ErrClosed)
		require.ErrorIs(t, b.Add(t.Context(), small("x")), sinks.ErrClosed)
		remains, err = b.Close(t.Context())
		require.NoError(t, err, "twice is fine")
		require.Empty(t, remains)
		require.Zero(t, b.Held())
	})
}

// A Run that begins after Close was called still does its work.
func TestBatcherCloseBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{begin: time.Now()}
		b, err := sinks.NewBatcher(sinks.BatcherOptions{Dispatch: k.dispatch, OnFailure: func(sinks.Batch, error) {}})
		require.NoError(t, err)
		require.NoError(t, b.Add(t.Context(), small("1")))
		go func() {
			time.Sleep(time.Second)
			_ = b.Run(context.Background())
		}()
		remains, err := b.Close(t.Context())
		require.NoError(t, err)
		require.Empty(t, remains)
		require.Equal(t, []string{"1s [1]}"}, k.taken())
	})
}

// When Run's context ends, nothing is lost: Close reports what remains.
func TestBatcherStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{pause: time.Hour}
		b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 1})
		for n := range 2 {
			require.NoError(t, b.Add(t.Context(), small(fmt.Sprint(n))))
		}
		synctest.Wait()
		end()
		require.ErrorIs(t, b.Add(t.Context(), small("x")), sinks.ErrClosed)
		remains, err := b.Close(t.Context())
		require.Error(t, err)
		require.Len(t, remains, 2)
		require.Equal(t, "[0]}", string(remains[0].Body), "in order")
	})
}

// A failed batch is handed over, and the next one goes on.
func TestBatcherFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{fail: errors.New("no")}
		var failed []string
		b, end := startBatcher(t, k, sinks.BatcherOptions{
			MaxVisitors: 1, OnFailure: func(b sinks.Batch, err error) { failed = append(failed, string(b.Body)+err.Error()) },
		})
		defer end()
		for n := range 2 {
			require.NoError(t, b.Add(t.Context(), small(fmt.Sprint(n))))
		}
		remains, err := b.Close(t.Context())
		require.NoError(t, err)
		require.Empty(t, remains)
		require.Equal(t, []string{"[0]}no", "[1]}no"}, failed)
	})
}

// Visitors of many goroutines all arrive once, those of each in order.
func TestBatcherConcurrency(t *testing.T) {
	k := &taker{}
	b, end := startBatcher(t, k, sinks.BatcherOptions{MaxVisitors: 7, Capacity: 20})
	defer end()
	const adders, each = 8, 200
	var group sync.WaitGroup
	for a := range adders {
		group.Go(func() {
			for n := range each {
				if err := b.Add(t.Context(), small(fmt.Sprintf("%d:%d", a, n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	_, err := b.Close(deadline(t))
	require.NoError(t, err)
	next := map[string]int{}
	for _, line := range k.taken() {
		body := line[strings.Index(line, "[")+1 : len(line)-2]
		for _, text := range strings.Split(body, ",") {
			adder, number, _ := strings.Cut(text, ":")
			require.Equal(t, fmt.Sprint(next[adder]), number)
			next[adder]++
		}
	}
	require.Len(t, next, adders)
	for _, n := range next {
		require.Equal(t, each, n)
	}
}

func TestBatcherOptions(t *testing.T) {
	_, err := sinks.NewBatcher(sinks.BatcherOptions{MaxVisitors: -1, MaxBytes: -1, MaxAge: -1, Capacity: -2, CapacityBytes: -2})
	for _, want := range []string{"batch size", "byte limit", "interval", "capacity", "dispatcher", "can't be dispatched"} {
		require.ErrorContains(t, err, want)
	}
}
