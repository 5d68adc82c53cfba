package sinks_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

// recipes_test.go runs the rows of event-batching.md section 10 against the
// emulator, over real HTTP.

// A stack is what a program without a durable queue has: a batcher whose batches
// a poster delivers.
type stack struct {
	*sinks.Batcher
	poster *sinks.Poster
	em     *emulator.Server

	mu     sync.Mutex
	failed []sinks.Batch
	errs   []error
	seen   []sinks.Batch // by OnBatch
	refuse []sinks.Refusal
}

func newStack(t *testing.T, em *emulator.Server, o sinks.BatcherOptions) *stack {
	t.Helper()
	s := &stack{poster: newPoster(t, sinks.PosterOptions{}), em: em}
	o.Dispatch = func(ctx context.Context, b sinks.Batch) error {
		result, err := s.poster.Deliver(ctx, b)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refuse = append(s.refuse, result.Refused...)
		return err
	}
	o.OnFailure = func(b sinks.Batch, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed, s.errs = append(s.failed, b), append(s.errs, err)
	}
	o.OnBatch = func(b sinks.Batch) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, b)
	}
	var err error
	s.Batcher, err = sinks.NewBatcher(o)
	require.NoError(t, err)
	done := make(chan error, 1) // 1: Run ends even if the test has failed before
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		_, _ = s.Close(t.Context()) // a test that has failed may have left it open
		require.NoError(t, <-done)
	})
	return s
}

func (s *stack) add(t *testing.T, endpoint, revision string, n int) {
	t.Helper()
	require.NoError(t, s.Add(deadline(t), sinks.Visitor{
		Endpoint: endpoint, Head: []byte(head(revision)), Body: []byte(visitor(n)), ID: uuidOf(n),
	}))
}

func (s *stack) closeAll(t *testing.T) {
	t.Helper()
	remains, err := s.Close(deadline(t))
	require.NoError(t, err)
	require.Empty(t, remains)
}

// Row 1: sizes of 2, 2, 1; the last at Close.
func TestRecipe1Size(t *testing.T) {
	em := newEmulator(t)
	s := newStack(t, em, sinks.BatcherOptions{MaxVisitors: 2})
	for n := range 5 {
		s.add(t, em.URLs().Events, "7", n)
	}
	require.NoError(t, em.Await(deadline(t), func() bool { return len(posts(em)) == 2 }))
	require.Eventually(t, func() bool { return s.Held() == 1 }, 10*time.Second, time.Millisecond, "the fifth waits")
	s.closeAll(t)
	got := posts(em)
	require.Len(t, got, 3)
	for i, want := range []string{string(bodyOf(0, 2)), string(bodyOf(2, 4)), string(bodyOf(4, 5))} {
		require.Equal(t, want, string(got[i].Body))
		require.Empty(t, got[i].Problems)
		require.Equal(t, http.MethodPost, got[i].Method)
		require.Equal(t, "application/json", got[i].Header.Get("Content-Type"))
	}
}

// The same, with the last one at Flush.
func TestRecipe1Flush(t *testing.T) {
	em := newEmulator(t)
	s := newStack(t, em, sinks.BatcherOptions{MaxVisitors: 2})
	s.add(t, em.URLs().Events, "7", 0)
	s.Flush()
	require.NoError(t, em.Await(deadline(t), func() bool { return len(posts(em)) == 1 }))
	s.closeAll(t)
	require.Len(t, posts(em), 1, "an empty batch is never sent (EB-9)")
}

// Row 2: the interval counts from the first event of a batch. (TestBatcherAge
// has it to the millisecond.)
func TestRecipe2Interval(t *testing.T) {
	em := newEmulator(t)
	s := newStack(t, em, sinks.BatcherOptions{MaxAge: 300 * time.Millisecond})
	begin := time.Now()
	s.add(t, em.URLs().Events, "7", 0)
	s.add(t, em.URLs().Events, "7", 1)
	require.NoError(t, em.Await(deadline(t), func() bool { return len(posts(em)) == 1 }))
	got := posts(em)
	require.Equal(t, string(bodyOf(0, 2)), string(got[0].Body))
	require.GreaterOrEqual(t, got[0].Time.Sub(begin), 300*time.Millisecond)
	s.closeAll(t)
}

// Row 3: a change of revision that flips back makes three bodies.
func TestRecipe3Revisions(t *testing.T) {
	em := newEmulator(t)
	s := newStack(t, em, sinks.BatcherOptions{})
	for n, revision := range []string{"7", "8", "8", "7"} {
		s.add(t, em.URLs().Events, revision, n)
	}
	s.closeAll(t)
	got := posts(em)
	require.Len(t, got, 3)
	for i, want := range []string{
		head("7") + visitor(0) + "]}", head("8") + visitor(1) + "," + visitor(2) + "]}", head("7") + visitor(3) + "]}",
	} {
		require.Equal(t, want, string(got[i].Body))
	}
}

// Row 4: 500, 500, 204.
func TestRecipe4Retries(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	em.Script("/v1/events", 500, 500, 204)
	b := batchOf(em.URLs().Events, 0, 3)
	result, err := newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), b)
	require.NoError(t, err)
	require.Equal(t, sinks.Result{Delivered: 3, Attempts: 3}, result)
	got := posts(em)
	requireSameBodies(t, got, 3, b.Body)
	requireGap(t, got, 0, 195*time.Millisecond, 390*time.Millisecond)
	requireGap(t, got, 1, 395*time.Millisecond, 790*time.Millisecond)
}

// Row 5: four attempts, the breaker opens, tried again with the same bytes.
func TestRecipe5Breaker(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	em.Script("/v1/events", 500, 500, 500, 500, 500, 204)
	o := newRunningOutbox(t, t.TempDir(), sinks.OutboxOptions{})
	b := batchOf(em.URLs().Events, 0, 3)
	o.append(t, b)
	require.NoError(t, o.Wait(deadline(t)))
	got := posts(em)
	requireSameBodies(t, got, 6, b.Body)
	requireGap(t, got, 2, 795*time.Millisecond, 1200*time.Millisecond)
	requireGap(t, got, 3, 895*time.Millisecond, 1500*time.Millisecond) // the first pause
	requireGap(t, got, 4, 1795*time.Millisecond, 2500*time.Millisecond)
	require.Equal(t, tally(1, 3), o.Account().Delivered)
	require.Zero(t, o.Account().Refused)
	stats := o.poster.Stats()
	require.EqualValues(t, 1, stats.BreakerOpened)
	require.Zero(t, stats.BreakersOpen)
}

// Row 5 without a durable queue: handed back with the last status and the number
// of attempts, and later batches go on.
func TestRecipe5HandedBack(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	em.Script("/v1/events", 500, 503, 500, 502)
	s := newStack(t, em, sinks.BatcherOptions{MaxVisitors: 1})
	s.add(t, em.URLs().Events, "7", 0)
	s.add(t, em.URLs().Events, "7", 1)
	s.closeAll(t)
	requireSameBodies(t, posts(em)[:4], 4, bodyOf(0, 1))
	require.Equal(t, string(bodyOf(1, 2)), string(posts(em)[4].Body))
	require.Len(t, s.failed, 1)
	require.Equal(t, string(bodyOf(0, 1)), string(s.failed[0].Body))
	var failure *sinks.DeliveryError
	require.ErrorAs(t, s.errs[0], &failure)
	require.Equal(t, 4, failure.Attempts)
	var status *sinks.StatusError
	require.ErrorAs(t, s.errs[0], &status)
	require.Equal(t, 502, status.Status)
	require.False(t, sinks.IsPermanent(s.errs[0]))
}

// Row 6: a refusal is no matter for a retry.
func TestRecipe6Refusal(t *testing.T) {
	em := newEmulator(t)
	em.Script("/v1/events", 400)
	o := newRunningOutbox(t, t.TempDir(), sinks.OutboxOptions{})
	b := batchOf(em.URLs().Events, 0, 3)
	o.append(t, b)
	require.NoError(t, o.Wait(deadline(t)))
	requireSameBodies(t, posts(em), 1, b.Body)
	require.Equal(t, tally(1, 3), o.Account().Refused)
	refused := o.refused(t)
	require.Len(t, refused, 1)
	require.Equal(t, uint64(1), refused[0].Seq)
	require.Equal(t, b.ID, refused[0].ID)
	require.Equal(t, 400, refused[0].Parts[0].Status)
	require.Equal(t, "status 400 Bad Request", refused[0].Parts[0].Reason)
	require.Equal(t, string(b.Body), string(refused[0].Parts[0].Body))
}

// Row 7: closed without a reply.
func TestRecipe7CutConnection(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Cut: emulator.CutAfter})
	require.NoError(t, err)
	b := batchOf(em.URLs().Events, 0, 3)
	result, err := newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), b)
	require.Error(t, err)
	require.False(t, sinks.IsPermanent(err))
	require.Equal(t, []sinks.Batch{b}, result.Unsent)
	requireSameBodies(t, posts(em), 4, b.Body)
}

// The same on a connection that was kept: no hidden retries of the HTTP client.
func TestRecipe7KeptConnection(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	p := newPoster(t, sinks.PosterOptions{})
	_, err := p.Deliver(deadline(t), batchOf(em.URLs().Events, 0, 3))
	require.NoError(t, err)
	_, err = em.AddFault(emulator.Fault{Route: "/v1/events", Cut: emulator.CutBefore})
	require.NoError(t, err)
	_, err = p.Deliver(deadline(t), batchOf(em.URLs().Events, 3, 6))
	require.Error(t, err)
	require.Len(t, posts(em), 1+4)
	require.EqualValues(t, 5, p.Stats().Attempts)
}

// Row 7: nobody listens.
func TestRecipe7Refused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	endpoint := "http://" + l.Addr().String() + "/v1/events"
	require.NoError(t, l.Close())
	p := newPoster(t, sinks.PosterOptions{})
	result, err := p.Deliver(deadline(t), batchOf(endpoint, 0, 3))
	require.Error(t, err)
	require.False(t, sinks.IsPermanent(err))
	require.Equal(t, 4, result.Attempts)
	require.EqualValues(t, 4, p.Stats().Attempts)
}

// Row 8: Retry-After.
func TestRecipe8RetryAfter(t *testing.T) {
	em := newEmulator(t)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Status: 429, RetryAfter: "1", Times: 1})
	require.NoError(t, err)
	b := batchOf(em.URLs().Events, 0, 3)
	_, err = newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), b)
	require.NoError(t, err)
	got := posts(em)
	requireSameBodies(t, got, 2, b.Body)
	requireGap(t, got, 0, time.Second, 2*time.Second)
}

// Row 9: Close ends at its deadline, and what remains is reported.
func TestRecipe9SlowServer(t *testing.T) {
	em := newEmulator(t)
	const delay = 2 * time.Second
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Delay: delay})
	require.NoError(t, err)
	s := newStack(t, em, sinks.BatcherOptions{MaxVisitors: 1})
	for n := range 3 {
		s.add(t, em.URLs().Events, "7", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	remains, err := s.Close(ctx)
	require.Less(t, time.Since(begin), delay, "it doesn't wait for the server")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, remains, 3)
	for n := range remains {
		require.Equal(t, string(bodyOf(n, n+1)), string(remains[n].Body))
	}
	require.ErrorIs(t, s.Add(t.Context(), sinks.Visitor{}), sinks.ErrClosed)
	require.Empty(t, s.failed, "each is reported once")
}

// Row 10: the hook is called once per batch, before the POST, however often that
// is repeated.
func TestRecipe10Hook(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	em.Script("/v1/events", 500, 500, 500, 500, 500, 204)
	o := newRunningOutbox(t, t.TempDir(), sinks.OutboxOptions{})
	var seen []sinks.Batch
	b, err := sinks.NewBatcher(sinks.BatcherOptions{
		MaxVisitors: 2,
		OnBatch: func(b sinks.Batch) {
			require.Empty(t, posts(em), "before the POST") // the endpoint is down meanwhile
			seen = append(seen, b)
		},
		Dispatch: func(ctx context.Context, b sinks.Batch) error {
			_, err := o.Append(ctx, b)
			return err
		},
		OnFailure: func(_ sinks.Batch, err error) { t.Error(err) },
	})
	require.NoError(t, err)
	for n := range 2 {
		require.NoError(t, b.Add(t.Context(), sinks.Visitor{
			Endpoint: em.URLs().Events, Head: []byte(head("7")), Body: []byte(visitor(n)), ID: uuidOf(n),
		}))
	}
	done := make(chan error, 1) // 1: see newStack
	go func() { done <- b.Run(context.Background()) }()
	remains, err := b.Close(deadline(t))
	require.NoError(t, err)
	require.Empty(t, remains)
	require.NoError(t, <-done)
	require.NoError(t, o.Wait(deadline(t)))
	requireSameBodies(t, posts(em), 6, bodyOf(0, 2))
	require.Len(t, seen, 1)
	require.Equal(t, batchOf(em.URLs().Events, 0, 2), seen[0])
}

// Row 11: two regions in one batcher make two bodies for two hosts.
func TestRecipe11Regions(t *testing.T) {
	us, eu := newEmulator(t), newEmulator(t)
	s := newStack(t, us, sinks.BatcherOptions{})
	s.add(t, us.URLs().Events, "7", 0)
	s.add(t, eu.URLs().Events, "7", 1)
	s.closeAll(t)
	requireSameBodies(t, posts(us), 1, bodyOf(0, 1))
	requireSameBodies(t, posts(eu), 1, bodyOf(1, 2))
}

// EB-P3 and EB-P5, status by status.
func TestStatuses(t *testing.T) {
	wants := map[int]string{
		200: "accepted", 201: "accepted", 202: "accepted", 204: "accepted",
		302: "refused", 304: "refused", 400: "refused", 401: "refused", 403: "refused", 404: "refused", 405: "refused",
		410: "refused", 413: "refused", 422: "refused", 451: "refused",
		408: "retried", 425: "retried", 429: "retried", 500: "retried", 501: "retried", 502: "retried", 503: "retried",
		504: "retried", 599: "retried",
	}
	type outcome struct {
		status int
		em     *emulator.Server
		result sinks.Result
		err    error
	}
	outcomes := make(chan outcome, len(wants)) // one for each sender
	ctx := deadline(t)
	for status := range wants {
		em, p := newEmulator(t), newPoster(t, sinks.PosterOptions{})
		_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Status: status, Header: map[string]string{"Location": em.URL()}})
		require.NoError(t, err)
		go func() {
			result, err := p.Deliver(ctx, batchOf(em.URLs().Events, 0, 1))
			outcomes <- outcome{status, em, result, err}
		}()
	}
	for range wants {
		o := <-outcomes
		require.Len(t, o.em.Attempts(""), o.result.Attempts, "no redirect is followed")
		switch wants[o.status] {
		case "accepted":
			require.NoError(t, o.err)
			require.Equal(t, sinks.Result{Delivered: 1, Attempts: 1}, o.result)
		case "refused":
			require.NoError(t, o.err)
			require.Equal(t, 1, o.result.Attempts, o.status)
			require.Len(t, o.result.Refused, 1)
			require.Equal(t, o.status, o.result.Refused[0].Status)
		case "retried":
			require.Error(t, o.err)
			require.False(t, sinks.IsPermanent(o.err))
			require.Equal(t, 4, o.result.Attempts, o.status)
			require.Len(t, o.result.Unsent, 1)
		}
	}
}

// A 413 halves the body, down to one visitor; halves keep head and visitors byte
// for byte.
func TestTooLargeIsHalved(t *testing.T) {
	em := newEmulator(t)
	whole := batchOf(em.URLs().Events, 0, 10)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Status: 413, MinBytes: len(bodyOf(0, 3)) + 1})
	require.NoError(t, err)
	_, err = em.AddFault(emulator.Fault{Route: "/v1/events", Status: 413, Contains: uuidOf(4)})
	require.NoError(t, err)
	result, err := newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), whole)
	require.NoError(t, err)
	require.Equal(t, 9, result.Delivered)
	require.Len(t, result.Refused, 1)
	require.Equal(t, batchOf(em.URLs().Events, 4, 5), result.Refused[0].Batch)
	require.Equal(t, 413, result.Refused[0].Status)
	var order []string
	for _, a := range em.Received() {
		require.Empty(t, a.Problems)
		require.True(t, strings.HasPrefix(string(a.Body), head("7")))
		for _, v := range a.Visitors {
			order = append(order, v.UUID)
			require.Contains(t, string(whole.Body), string(a.Body[len(head("7")):len(a.Body)-2]))
		}
	}
	require.Equal(t, []string{
		uuidOf(0), uuidOf(1), uuidOf(2), uuidOf(3), uuidOf(5), uuidOf(6), uuidOf(7), uuidOf(8), uuidOf(9),
	}, order)
}

// A half that can't be delivered now is handed back; the other one isn't sent again.
func TestHalfHandedBack(t *testing.T) {
	t.Parallel()
	em := newEmulator(t)
	em.Script("/v1/events", 413, 204, 500, 500, 500, 500)
	result, err := newPoster(t, sinks.PosterOptions{}).Deliver(deadline(t), batchOf(em.URLs().Events, 0, 5))
	require.Error(t, err)
	require.Equal(t, 2, result.Delivered)
	require.Equal(t, []sinks.Batch{batchOf(em.URLs().Events, 2, 5)}, result.Unsent)
	require.Equal(t, 6, result.Attempts)
}

// An attempt ends at its timeout and is repeated.
func TestTimeout(t *testing.T) {
	em := newEmulator(t)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true, Times: 1})
	require.NoError(t, err)
	p := newPoster(t, sinks.PosterOptions{Timeout: 150 * time.Millisecond})
	result, err := p.Deliver(deadline(t), batchOf(em.URLs().Events, 0, 1))
	require.NoError(t, err)
	require.Equal(t, 2, result.Attempts)
}

// A caller's end is no failure of the endpoint, and stops at once.
func TestContextEnds(t *testing.T) {
	em := newEmulator(t)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	p := newPoster(t, sinks.PosterOptions{})
	enough := errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	begin := time.Now()
	result, err := p.DeliverDurably(ctx, batchOf(em.URLs().Events, 0, 1))
	require.ErrorIs(t, err, enough)
	require.Less(t, time.Since(begin), 5*time.Second)
	require.Len(t, result.Unsent, 1)
	require.Zero(t, p.Stats().BreakersOpen)
}
