package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testEndpoint = "http://logx.test/v1/events"

func testBatch(n, size int) Batch {
	body := fmt.Sprintf(`{"n":%d,"visitors":[`, n)
	body += strings.Repeat("0,", max(size-len(body)-2, 1)/2) + "0]}"
	return Batch{Endpoint: testEndpoint, ID: fmt.Sprint("id-", n), Visitors: 2, Body: []byte(body)}
}

func openTest(t *testing.T, dir string, o OutboxOptions) *Outbox {
	t.Helper()
	outbox, err := OpenOutbox(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, outbox.Close()) })
	return outbox
}

func mustAppend(t *testing.T, o *Outbox, b Batch) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	seq, err := o.Append(ctx, b)
	require.NoError(t, err)
	return seq
}

// A receiver takes batches as a server would.
type receiver struct {
	mu     sync.Mutex
	bodies []string
	answer func(Batch) (Result, error) // nil: accepts
}

func (r *receiver) deliver(ctx context.Context, b Batch) (Result, error) {
	r.mu.Lock()
	r.bodies = append(r.bodies, string(b.Body))
	r.mu.Unlock()
	if r.answer != nil {
		return r.answer(b)
	}
	return Result{Delivered: b.Visitors, Attempts: 1}, nil
}

// drain delivers everything, or until the outbox has stopped doing so.
func drain(t *testing.T, o *Outbox, r *receiver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- o.Run(ctx, r.deliver) }()
	require.NoError(t, o.Wait(ctx))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func requireAccount(t *testing.T, o *Outbox, appended, delivered, refused, pending uint64) {
	t.Helper()
	a := o.Account()
	require.Equal(t, []uint64{appended, delivered, refused, pending},
		[]uint64{a.Appended.Batches, a.Delivered.Batches, a.Refused.Batches, a.Pending.Batches})
	require.Equal(t, a.Appended.Visitors, a.Delivered.Visitors+a.Refused.Visitors+a.Pending.Visitors)
	require.LessOrEqual(t, a.Pending.Visitors, a.Appended.Visitors)
}

func TestOutboxKeepsItsBatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	o := openTest(t, dir, OutboxOptions{Concurrency: 1})
	var want []string
	for n := range 5 {
		b := testBatch(n, 100*n)
		require.EqualValues(t, n+1, mustAppend(t, o, b))
		want = append(want, string(b.Body))
	}
	requireAccount(t, o, 5, 0, 0, 5)
	require.NoError(t, o.Close())
	require.NoError(t, o.Close(), "twice is fine")
	_, err := o.Append(t.Context(), testBatch(9, 9))
	require.ErrorIs(t, err, ErrClosed)

	o = openTest(t, dir, OutboxOptions{Concurrency: 1})
	requireAccount(t, o, 5, 0, 0, 5)
	r := &receiver{}
	drain(t, o, r)
	require.Equal(t, want, r.bodies, "in order, the same bytes")
	requireAccount(t, o, 5, 5, 0, 0)
	require.NoError(t, o.Close())

	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 5, 5, 0, 0)
	require.EqualValues(t, 6, mustAppend(t, o, testBatch(5, 10)), "numbers go on")
	r = &receiver{}
	drain(t, o, r)
	require.Len(t, r.bodies, 1, "what is settled isn't sent again")
	requireAccount(t, o, 6, 6, 0, 0)
}

func TestOutboxHandsOverWhatItGot(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	want := Batch{Endpoint: "http://name:secret@host/ä?a=b", ID: strings.Repeat("i", 70_000), Body: []byte("not json \xff\x00\n")}
	mustAppend(t, o, want)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	var got Batch
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		got = b
		return Result{Refused: []Refusal{{Batch: b, Reason: "why", Answer: "what\xff"}}}, nil
	}})
	want.ID, want.Visitors = want.ID[:65535], 1
	require.Equal(t, want, got)
	requireAccount(t, o, 1, 0, 1, 0)
	for refused, err := range o.Refused() {
		require.NoError(t, err)
		require.Equal(t, string(want.Body), string(refused.Parts[0].Body), "also of a body that isn't UTF-8")
		require.Equal(t, "why", refused.Parts[0].Reason)
	}
}

func TestOutboxRefused(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	for n := range 6 {
		mustAppend(t, o, testBatch(n, 100))
	}
	// Of every batch but the first, one visitor is refused.
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		if b.ID == "id-0" {
			return Result{Delivered: 2}, nil
		}
		one := b
		one.Visitors = 1
		return Result{Delivered: 1, Refused: []Refusal{{Batch: one, Status: 413, Reason: "status 413"}}}, nil
	}})
	check := func(o *Outbox, kept int) {
		t.Helper()
		requireAccount(t, o, 6, 1, 5, 0)
		require.EqualValues(t, 5, o.Account().Refused.Visitors)
		require.EqualValues(t, 7, o.Account().Delivered.Visitors)
		n := 0
		for batch, err := range o.Refused() {
			require.NoError(t, err)
			require.Equal(t, 1, batch.Delivered)
			require.Equal(t, 1, batch.Refused)
			n++
		}
		require.Equal(t, kept, n)
	}
	check(o, 5)
	require.NoError(t, o.Close())
	for _, err := range o.Refused() {
		require.ErrorIs(t, err, ErrClosed)
	}
	o = openTest(t, dir, OutboxOptions{})
	check(o, 5)
	before := o.Account().Bytes
	require.NoError(t, o.ClearRefused())
	require.Less(t, o.Account().Bytes, before)
	check(o, 0)
	require.NoError(t, o.ClearRefused())
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	check(o, 0)
	mustAppend(t, o, testBatch(6, 100))
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		return Result{Refused: []Refusal{{Batch: b}}}, nil
	}})
	requireAccount(t, o, 7, 1, 6, 0)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 7, 1, 6, 0)
}

func TestOutboxIsLocked(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	_, err := OpenOutbox(dir, OutboxOptions{})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, dir)
	require.NoError(t, o.Close())
	openTest(t, dir, OutboxOptions{})
}

// Its files never grow beyond the bound, however much goes through.
func TestOutboxIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{MaxBytes: minOutboxBytes, Sync: SyncInterval})
	r := &receiver{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- o.Run(ctx, r.deliver) }()
	for n := range 500 {
		mustAppend(t, o, testBatch(n, 3000))
		if n%50 == 0 {
			require.LessOrEqual(t, o.Account().Bytes, int64(minOutboxBytes)+1000)
			require.LessOrEqual(t, sizeOf(t, dir), int64(minOutboxBytes)+1000)
		}
	}
	require.NoError(t, o.Wait(ctx))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	requireAccount(t, o, 500, 500, 0, 0)
	require.Len(t, r.bodies, 500)
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if info, err := f.Info(); err == nil { // else: removed meanwhile
			size += info.Size()
		}
	}
	return size
}

func TestOutboxFull(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes, WhenFull: Fail})
	_, err := o.Append(t.Context(), testBatch(0, minOutboxBytes))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = o.Append(t.Context(), Batch{Endpoint: "logx", Body: []byte("{}")})
	require.ErrorIs(t, err, ErrEndpoint)
	n := 0
	for ; err == nil || n == 0; n++ {
		_, err = o.Append(t.Context(), testBatch(n, 3000))
	}
	require.ErrorIs(t, err, ErrFull)
	require.Greater(t, n, 15)
	requireAccount(t, o, uint64(n-1), 0, 0, uint64(n-1))

	// Refused batches hold their room until they are cleared.
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return Result{Refused: []Refusal{{Batch: b}}}, nil }})
	_, err = o.Append(t.Context(), testBatch(0, 30_000))
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, o.ClearRefused())
	mustAppend(t, o, testBatch(0, 30_000))
}

func TestOutboxSlowsTheCaller(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = o.Append(ctx, testBatch(n, 3000))
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	appended := make(chan error, 1) // 1: the goroutine can end
	go func() {
		_, err := o.Append(t.Context(), testBatch(n, 3000))
		appended <- err
	}()
	drain(t, o, &receiver{})
	require.NoError(t, <-appended)

	// Closing lets go of those who wait.
	for err = nil; err == nil; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = o.Append(ctx, testBatch(n, 3000))
		cancel()
	}
	go func() {
		_, err := o.Append(t.Context(), testBatch(n, 3000))
		appended <- err
	}()
	waited := make(chan error, 1) // 1: the goroutine can end
	go func() { waited <- o.Wait(t.Context()) }()
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.waiters == 2
	}, 5*time.Second, time.Millisecond)
	require.NoError(t, o.Close())
	require.ErrorIs(t, <-appended, ErrClosed)
	require.ErrorIs(t, <-waited, ErrClosed)
}

// Endpoints don't hold each other up, and each gets at most Concurrency at once.
func TestOutboxLanes(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{Concurrency: 2})
	const us, eu = "http://us.test/", "http://eu.test/"
	for n := range 10 {
		for _, endpoint := range []string{us, eu} {
			b := testBatch(n, 100)
			b.Endpoint = endpoint
			mustAppend(t, o, b)
		}
	}
	release := make(chan struct{}) // closed to let EU go; never sent to
	var atUS, inEU, most atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1) // 1: Run can end
	go func() {
		done <- o.Run(ctx, func(ctx context.Context, b Batch) (Result, error) {
			if b.Endpoint == us {
				atUS.Add(1)
				return Result{Delivered: b.Visitors}, nil
			}
			most.Store(max(most.Load(), inEU.Add(1)))
			defer inEU.Add(-1)
			<-release
			return Result{Delivered: b.Visitors}, nil
		})
	}()
	require.Eventually(t, func() bool { return atUS.Load() == 10 && inEU.Load() == 2 }, 10*time.Second, time.Millisecond)
	requireAccount(t, o, 20, 10, 0, 10)
	close(release)
	require.NoError(t, o.Wait(ctx))
	require.LessOrEqual(t, most.Load(), int64(2))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// With a concurrency of 1 batches arrive in order, across segments and restarts.
func TestOutboxOrder(t *testing.T) {
	dir := t.TempDir()
	options := OutboxOptions{Concurrency: 1, MaxBytes: 1 << 20, Sync: SyncInterval}
	r := &receiver{}
	var want []string
	n := 0
	for range 4 {
		o := openTest(t, dir, options)
		for range 200 {
			b := testBatch(n, 900)
			mustAppend(t, o, b)
			want = append(want, string(b.Body))
			n++
		}
		drain(t, o, r)
		require.NoError(t, o.Close())
	}
	require.Equal(t, want, r.bodies)
}

// An interrupted Run leaves what was under way pending, for the next one.
func TestOutboxRunAgain(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{})
	for n := range 10 {
		mustAppend(t, o, testBatch(n, 100))
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := o.Run(ctx, func(ctx context.Context, b Batch) (Result, error) {
		cancel()
		<-ctx.Done()
		return Result{Unsent: []Batch{b}}, ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	requireAccount(t, o, 10, 0, 0, 10)
	broken := errors.New("broken")
	require.ErrorIs(t, o.Run(t.Context(), func(context.Context, Batch) (Result, error) { return Result{}, broken }), broken)
	requireAccount(t, o, 10, 0, 0, 10)
	r := &receiver{}
	drain(t, o, r)
	require.Len(t, r.bodies, 10)
}

// A maximum age refuses what couldn't be delivered in time, but not untried.
func TestOutboxMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := OpenOutbox(t.TempDir(), OutboxOptions{MaxAge: time.Hour})
		require.NoError(t, err)
		begin := time.Now()
		mustAppend(t, o, testBatch(0, 100))
		var given []time.Duration
		undelivered := func(ctx context.Context, b Batch) (Result, error) {
			<-ctx.Done()
			given = append(given, time.Since(begin))
			return Result{Delivered: 1, Unsent: []Batch{{Visitors: 1, Body: b.Body}}}, context.Cause(ctx)
		}
		run := func(deliver func(context.Context, Batch) (Result, error)) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1) // 1: Run can end
			go func() { done <- o.Run(ctx, deliver) }()
			require.NoError(t, o.Wait(t.Context()))
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		run(undelivered)
		require.Equal(t, []time.Duration{time.Hour}, given)
		requireAccount(t, o, 1, 0, 1, 0)
		require.EqualValues(t, 1, o.Account().Delivered.Visitors)
		for refused, err := range o.Refused() {
			require.NoError(t, err)
			require.Equal(t, "not delivered within 1h0m0s: too old", refused.Parts[0].Reason)
		}
		mustAppend(t, o, testBatch(1, 100))
		time.Sleep(2 * time.Hour)
		begin, given = time.Now(), nil
		run(func(ctx context.Context, b Batch) (Result, error) {
			<-ctx.Done()
			given = append(given, time.Since(begin))
			return Result{}, context.Cause(ctx) // says nothing about what is unsent: all is
		})
		require.Equal(t, []time.Duration{lastTry}, given)
		require.EqualValues(t, 3, o.Account().Refused.Visitors)
		require.NoError(t, o.Close())
	})
}

func TestOutboxOptions(t *testing.T) {
	_, err := OpenOutbox(t.TempDir(), OutboxOptions{Sync: 9, SyncEvery: -1, MaxBytes: 1, Concurrency: -1, MaxAge: -1})
	for _, want := range []string{"sync policy", "interval", "64 KiB", "concurrency", "age"} {
		require.ErrorContains(t, err, want)
	}
	for _, bound := range []int64{-1, minRefusedBytes - 1, minOutboxBytes/2 + 1} {
		_, err = OpenOutbox(t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes, MaxRefusedBytes: bound})
		require.ErrorContains(t, err, "refused", bound)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = OpenOutbox(file, OutboxOptions{})
	require.Error(t, err)
}

func TestRefusedBodyJSON(t *testing.T) {
	for _, body := range []string{"", `{"a":"<ü>"}`, "\xff\x00", "a\nb", "\u2028"} {
		text, err := json.Marshal(RefusedBody(body))
		require.NoError(t, err)
		var back RefusedBody
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, body, string(back))
	}
}
