package emulator_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

func fault(t *testing.T, em *emulator.Server, f emulator.Fault) int64 {
	t.Helper()
	id, err := em.AddFault(f)
	require.NoError(t, err)
	return id
}

func TestScript(t *testing.T) {
	em := start(t)
	em.Script("/v1/events", 500, 503, 200)
	var statuses []int
	for range 4 {
		statuses = append(statuses, post(t, em, "/v1/events", body(1)).status)
	}
	assert.Equal(t, []int{500, 503, 200, 204}, statuses)
	var seen []int
	var accepted []bool
	for _, a := range em.Attempts("/v1/events") {
		seen, accepted = append(seen, a.Status), append(accepted, a.Accepted)
		assert.Equal(t, body(1), string(a.Body))
		assert.Equal(t, "user-1", a.Visitors[0].ID)
	}
	assert.Equal(t, statuses, seen)
	assert.Equal(t, []bool{false, false, true, true}, accepted)
	assert.Len(t, em.Received(), 2)
	assert.Equal(t, map[string]int{uuid(1): 2}, em.UUIDs())
	assert.Empty(t, em.Faults(), "used up")
}

func TestScriptsOfOtherRoutes(t *testing.T) {
	em := start(t)
	em.Script("/datafiles/auth/", 500)
	assert.Equal(t, 200, get(t, em, "/datafiles/SdkKeyDemo1.json").status)
	assert.Equal(t, 500, get(t, em, "/datafiles/auth/SdkKeyDemo1.json").status)
	em.Script("", 502, 304)
	assert.Equal(t, 502, get(t, em, "/datafiles/SdkKeyDemo1.json").status)
	r := get(t, em, "/datafiles/SdkKeyDemo1.json")
	assert.Equal(t, 304, r.status)
	assert.Empty(t, r.body)
	assert.NotEmpty(t, r.header.Get("Last-Modified"), "otherwise as it would be")
	assert.Panics(t, func() { em.Script("/v1/events", 42) })
}

func TestFaultStatusWithHeaders(t *testing.T) {
	em := start(t)
	id := fault(t, em, emulator.Fault{Route: "/v1/events", Status: 429, RetryAfter: "7", Body: `{"slow":"down"}`})
	r := post(t, em, "/v1/events", body(1))
	assert.Equal(t, 429, r.status)
	assert.Equal(t, "7", r.header.Get("Retry-After"))
	assert.Equal(t, `{"slow":"down"}`, r.body)
	assert.Equal(t, int64(1), em.Faults()[0].Hits)
	assert.True(t, em.RemoveFault(id))
	assert.False(t, em.RemoveFault(id))
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)

	fault(t, em, emulator.Fault{Route: "/v1/events", Status: 302, Header: map[string]string{"location": "/elsewhere"}})
	r = post(t, em, "/v1/events", body(1))
	assert.Equal(t, 302, r.status)
	assert.Equal(t, "/elsewhere", r.header.Get("Location"))
	em.ClearFaults()

	fault(t, em, emulator.Fault{Route: "/datafiles/", Header: map[string]string{"last-modified": ""}, Times: 1})
	r = get(t, em, "/datafiles/SdkKeyDemo1.json")
	assert.Equal(t, 200, r.status)
	assert.NotContains(t, r.header, "Last-Modified")
}

func TestFaultTakesEffect(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/v1/events", Status: 500, TakesEffect: true})
	assert.Equal(t, 500, post(t, em, "/v1/events", body(1)).status)
	require.Len(t, em.Received(), 1)
	assert.Equal(t, 500, em.Received()[0].Status)
}

func TestFaultBrokenJSON(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/datafiles/", BrokenJSON: true})
	r := get(t, em, "/datafiles/SdkKeyDemo1.json", "Accept-Encoding", "gzip")
	assert.Equal(t, 200, r.status)
	assert.False(t, json.Valid([]byte(r.body)))
	assert.Empty(t, r.header.Get("Content-Encoding"))
	fault(t, em, emulator.Fault{Route: "/predict/", Body: `{"predictions":[]}`})
	assert.Equal(t, `{"predictions":[]}`, post(t, em, "/predict/30002", "").body)
}

func TestFaultCuts(t *testing.T) {
	for _, tt := range []struct {
		cut        emulator.Cut
		isAccepted bool
		hasBody    bool
		hasStatus  bool
	}{
		{emulator.CutBefore, false, false, false},
		{emulator.CutAfter, true, true, false},
		{emulator.CutReply, true, true, true},
	} {
		t.Run(string(tt.cut), func(t *testing.T) {
			em := start(t)
			fault(t, em, emulator.Fault{Route: "/", Cut: tt.cut, Times: 1})
			r := post(t, em, "/v1/events", body(1))
			require.Error(t, r.err)
			if tt.hasStatus {
				assert.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
			}
			a := em.Attempts("/v1/events")[0]
			assert.Equal(t, tt.isAccepted, a.Accepted)
			assert.Equal(t, tt.hasBody, len(a.Body) > 0)
			assert.Equal(t, tt.hasStatus, a.Status != 0)
			assert.Equal(t, "cut "+string(tt.cut), a.Fault)
			assert.Equal(t, 204, post(t, em, "/v1/events", body(2)).status)
		})
	}
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/datafiles/", Cut: emulator.CutReply})
	r := get(t, em, "/datafiles/SdkKeyDemo1.json")
	assert.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
	assert.Equal(t, datafile[:len(datafile)/2], r.body)
}

func TestFaultHang(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/v1/events", Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var r result
	group.Go(func() { r = doContext(t, ctx, http.MethodPost, em.URL()+"/v1/events", body(1)) })
	require.NoError(t, em.Await(t.Context(), func() bool { return em.Requests(emulator.RouteEvents) == 1 }))
	cancel()
	group.Wait()
	require.ErrorIs(t, r.err, context.Canceled)
	assert.Empty(t, em.Received())
	assert.Equal(t, "hang", em.Attempts("")[0].Fault)
	assert.Equal(t, 0, em.Attempts("")[0].Status)
}

// What hangs must not keep the emulator from closing.
func TestFaultHangUntilClose(t *testing.T) {
	e, err := emulator.New(emulator.Options{})
	require.NoError(t, err)
	s, err := emulator.Listen(e, "127.0.0.1:0")
	require.NoError(t, err)
	_, err = s.AddFault(emulator.Fault{Hang: true, TakesEffect: true})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var r result
	group.Go(func() { assert.NoError(t, s.Run(ctx)) })
	group.Go(func() { r = post(t, s, "/v1/events", body(1)) })
	require.NoError(t, s.Await(t.Context(), func() bool { return len(s.Received()) == 1 }))
	began := time.Now()
	cancel()
	group.Wait()
	assert.Error(t, r.err)
	assert.Less(t, time.Since(began), 4*time.Second, "didn't wait for its grace to end")
}

func TestFaultDelay(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/v1/events", Delay: 120 * time.Millisecond})
	began := time.Now()
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)
	assert.GreaterOrEqual(t, time.Since(began), 120*time.Millisecond)
	assert.Len(t, em.Received(), 1)
}

// A request that is still waiting when its client or the emulator leaves has had
// no effect, and nobody is told otherwise.
func TestFaultDelayCutShort(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/v1/events", Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := doContext(t, ctx, http.MethodPost, em.URL()+"/v1/events", body(1))
	require.ErrorIs(t, r.err, context.DeadlineExceeded)
	require.NoError(t, em.Await(t.Context(), func() bool { return em.Requests(emulator.RouteEvents) == 1 }))
	a := em.Attempts("")[0]
	assert.False(t, a.Accepted)
	assert.Zero(t, a.Status)
	assert.Equal(t, body(1), string(a.Body))

	var group sync.WaitGroup
	var late result
	group.Go(func() { late = post(t, em, "/v1/events", body(2)) })
	require.Eventually(t, func() bool { return em.Faults()[0].Hits == 2 }, 10*time.Second, time.Millisecond)
	require.NoError(t, em.Close())
	group.Wait()
	assert.Error(t, late.err)
	assert.Empty(t, em.Received())
}

func TestFaultFraction(t *testing.T) {
	run := func(seed uint64) (failed []bool) {
		em := start(t)
		fault(t, em, emulator.Fault{Route: "/v1/events", Status: 500, Fraction: 0.5, Seed: seed})
		for range 60 {
			failed = append(failed, post(t, em, "/v1/events", body(1)).status == 500)
		}
		return failed
	}
	first := run(7)
	n := 0
	for _, failed := range first {
		if failed {
			n++
		}
	}
	assert.InDelta(t, 30, n, 15)
	assert.Equal(t, first, run(7), "the same seed, the same sequence")
	assert.NotEqual(t, first, run(8))
}

func TestFaultByContent(t *testing.T) {
	em := start(t)
	fault(t, em, emulator.Fault{Route: "/v1/events", Status: 400, Contains: `"user-2"`})
	fault(t, em, emulator.Fault{Route: "/v1/events", Status: 413, MinBytes: 600})
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)
	assert.Equal(t, 400, post(t, em, "/v1/events", body(2)).status)
	assert.Equal(t, 400, post(t, em, "/v1/events", body(1, 2, 3)).status, "the first that applies")
	assert.Equal(t, 413, post(t, em, "/v1/events", body(1, 3, 4)).status)
}

func TestFaultLimit(t *testing.T) {
	now := noon
	var mu sync.Mutex
	em := start(t, func(o *emulator.Options) {
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	fault(t, em, emulator.Fault{Route: "/v1/events", Limit: emulator.Limit{Requests: 2, Per: 10 * time.Second}})
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)
	advance(2500 * time.Millisecond)
	assert.Equal(t, 204, post(t, em, "/v1/events", body(2)).status)
	r := post(t, em, "/v1/events", body(3))
	assert.Equal(t, 429, r.status)
	assert.Equal(t, "8", r.header.Get("Retry-After"))
	advance(8 * time.Second)
	assert.Equal(t, 204, post(t, em, "/v1/events", body(3)).status)
	assert.Len(t, em.Received(), 3)
}

func TestFaultValidate(t *testing.T) {
	for name, f := range map[string]emulator.Fault{
		"nothing":         {Route: "/v1/events"},
		"route":           {Route: "v1", Status: 500},
		"mistyped route":  {Route: "/v1/evnts", Status: 500},
		"longer route":    {Route: "/v1/events/more", Status: 500},
		"admin's route":   {Route: "/admin/", Status: 500},
		"times":           {Times: -1, Status: 500},
		"fraction":        {Fraction: 1.5, Status: 500},
		"fraction NaN":    {Fraction: math.NaN(), Status: 500},
		"bytes":           {MinBytes: -1, Status: 500},
		"status":          {Status: 100},
		"delay":           {Delay: -1},
		"cut":             {Cut: "middle"},
		"hang and cut":    {Hang: true, Cut: emulator.CutAfter},
		"hang and status": {Hang: true, Status: 500},
		"cut and status":  {Cut: emulator.CutBefore, Status: 500},
		"cut and effect":  {Cut: emulator.CutBefore, TakesEffect: true},
		"two bodies":      {Body: "x", BrokenJSON: true},
		"half a limit":    {Limit: emulator.Limit{Requests: 1}},
	} {
		assert.Error(t, f.Validate(), name)
	}
	both := emulator.Fault{Times: -1, Status: 1}
	assert.Regexp(t, "(?s)times.*status", both.Validate().Error(), "all that is wrong")
	assert.NoError(t, (&emulator.Fault{Status: 500, Delay: time.Second, Fraction: 1}).Validate())
	for _, route := range []string{"", "/", "/v1", "/v1/events", "/v3/", "/datafiles/KEY.json", "/datafiles/auth/KEY.json", "/predict/30002"} {
		assert.NoError(t, (&emulator.Fault{Route: route, Status: 500}).Validate(), route)
	}
}

// Await ends when the context does, and not before what it waits for.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := emulator.New(emulator.Options{})
		require.NoError(t, err)
		defer e.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		err = e.Await(ctx, func() bool { return false })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(began))
	})
}
