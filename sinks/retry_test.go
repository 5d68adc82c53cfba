package sinks

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// EB-P3: 200, 400, 800 ms and a little, never above a second, never below what
// the server asked for.
func TestRetryDelay(t *testing.T) {
	for n, least := range []time.Duration{200, 400, 800, 1000, 1000} {
		least *= time.Millisecond
		isSpread := false
		for range 1000 {
			d := retryDelay(n+1, 0)
			require.GreaterOrEqual(t, d, least)
			require.LessOrEqual(t, d, min(least+least/10, time.Second))
			isSpread = isSpread || d > least+least/20
		}
		require.Equal(t, least < time.Second, isSpread, "attempt %d", n+1)
	}
	for range 1000 {
		d := retryDelay(1, 7*time.Second)
		require.GreaterOrEqual(t, d, 7*time.Second)
		require.Less(t, d, 7100*time.Millisecond)
	}
	require.Positive(t, retryDelay(1000, 0))
}

// EB-P4: growing pauses up to 60 s.
func TestBreakerPause(t *testing.T) {
	for n, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		most *= time.Second
		for range 200 {
			p := breakerPause(n+1, 0)
			require.LessOrEqual(t, p, most)
			require.Greater(t, p, most*8/10)
		}
	}
	require.Equal(t, 10*time.Second, breakerPause(1, 10*time.Second))
	require.Positive(t, breakerPause(1000, 0))
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "3": 3 * time.Second, " 3 ": 3 * time.Second, "10": 10 * time.Second, "11": 10 * time.Second,
		"99999999999999999999": 10 * time.Second, "-3": 0, "3.5": 0, "soon": 0, "3s": 0,
		now.Add(4 * time.Second).Format(http.TimeFormat): 4 * time.Second,
		now.Add(time.Hour).Format(http.TimeFormat):       10 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
		"Sunday, 01-Mar-26 12:00:05 GMT":                 5 * time.Second, // RFC 850
		"Sun Mar  1 12:00:06 2026":                       6 * time.Second, // asctime
	} {
		header := http.Header{}
		if text != "" {
			header.Set("Retry-After", text)
		}
		require.Equal(t, want, parseRetryAfter(header, now), text)
	}
}

// A transport that answers from a list of statuses, and notes when.
type scripted struct {
	begin    time.Time
	mu       sync.Mutex
	at       []time.Duration
	statuses []int
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	_ = r.Body.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Since(s.begin))
	status := 204
	if len(s.statuses) > 0 {
		status, s.statuses = s.statuses[0], s.statuses[1:]
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

// swap changes the statuses to come, and returns those before.
func (s *scripted) swap(statuses []int) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.statuses
	s.statuses = statuses
	return old
}

// A whole outage on the clock of a bubble: four quick attempts, then one per
// pause, the pauses growing to 60 s and no further.
func TestBreakerOnTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := make([]int, 14)
		for i := range down {
			down[i] = 503
		}
		transport := &scripted{begin: time.Now(), statuses: down}
		p, err := NewPoster(PosterOptions{Transport: transport})
		require.NoError(t, err)
		result, err := p.DeliverDurably(t.Context(), Batch{Endpoint: "http://e/", Visitors: 1, Body: []byte(`{}`)})
		require.NoError(t, err)
		require.Equal(t, Result{Delivered: 1, Attempts: 15}, result)
		for i, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60} {
			gap := transport.at[i+4] - transport.at[i+3]
			require.LessOrEqual(t, gap, most*time.Second, "pause %d", i+1)
			require.GreaterOrEqual(t, gap, most*time.Second*9/10, "pause %d", i+1)
		}
		require.Zero(t, p.Stats().BreakersOpen)
	})
}

// While an endpoint is down only one batch asks; the others wait, and go when it
// is back. Another endpoint isn't held.
func TestBreakerHoldsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := make([]int, 4+3)
		for i := range down {
			down[i] = 503
		}
		transport := &scripted{begin: time.Now(), statuses: down}
		p, err := NewPoster(PosterOptions{Transport: transport, Concurrency: 1})
		require.NoError(t, err)
		done := make(chan Result, 10) // 10: as many as there are senders
		send := func(endpoint string) {
			result, err := p.DeliverDurably(t.Context(), Batch{Endpoint: endpoint, Visitors: 1, Body: []byte(`{}`)})
			if err != nil {
				t.Error(err)
			}
			done <- result
		}
		go send("http://e/")
		time.Sleep(1600 * time.Millisecond) // the fourth attempt has failed
		require.Equal(t, 4, transport.count())
		require.Equal(t, 1, p.Stats().BreakersOpen)
		for range 8 {
			go send("http://e/")
		}
		time.Sleep(4 * time.Second) // two probes: at about 2.4 s and 4.4 s
		require.Equal(t, 6, transport.count())
		before := transport.swap(nil)
		send("http://other/")
		transport.swap(before)
		require.Equal(t, 7, transport.count())
		for range 9 + 1 {
			<-done
		}
		require.Equal(t, 4+3+1+9, transport.count(), "once each when it is back")
	})
}

// A body that the endpoint fails on, while it takes others, holds up nobody else: it
// is tried again after pauses of its own, until it is taken.
func TestBreakerOneBatchAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		poison := &poisoned{text: "poison", left: 4 * 3}
		p, err := NewPoster(PosterOptions{Transport: poison})
		require.NoError(t, err)
		const endpoint = "http://e/"
		done := make(chan Result, 1) // 1: the one sender never waits
		begin := time.Now()
		go func() {
			result, err := p.DeliverDurably(t.Context(), Batch{Endpoint: endpoint, Visitors: 1, Body: []byte(`{"poison":1}`)})
			if err != nil {
				t.Error(err)
			}
			done <- result
		}()
		for range 100 { // one each 100 ms, for 10 s
			before := time.Now()
			result, err := p.DeliverDurably(t.Context(), Batch{Endpoint: endpoint, Visitors: 1, Body: []byte(`{}`)})
			require.NoError(t, err)
			require.Equal(t, Result{Delivered: 1, Attempts: 1}, result)
			require.Zero(t, time.Since(before), "nobody waits for it")
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, Result{Delivered: 1, Attempts: 13}, <-done)
		// Three times the quick retries, pauses of 1, 2 and 4 s.
		require.InDelta(t, (3*1400*time.Millisecond + 7*time.Second).Seconds(), time.Since(begin).Seconds(), 1.5)
		stats := p.Stats()
		require.Zero(t, stats.BreakerOpened)
		require.Zero(t, stats.BreakersOpen)
	})
}

// poisoned answers 500 to bodies with a text in them, a number of times.
type poisoned struct {
	text string
	mu   sync.Mutex
	left int
}

func (p *poisoned) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status := 204
	if p.left > 0 && strings.Contains(string(body), p.text) {
		status = 500
		p.left--
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// A probe that is given up lets another one probe.
func TestBreakerProbeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker()
		isProbe, err := b.enter(t.Context())
		require.NoError(t, err)
		require.False(t, isProbe)
		opened, isAlone := b.leave(false, time.Now(), failed, 0)
		require.True(t, opened && !isAlone)
		opened, isAlone = b.leave(false, time.Now(), failed, 0)
		require.False(t, opened || isAlone, "open already")
		isProbe, err = b.enter(t.Context())
		require.NoError(t, err)
		require.True(t, isProbe)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = b.enter(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "one at a time")
		b.leave(true, time.Now(), unknown, 0)
		isProbe, err = b.enter(t.Context())
		require.NoError(t, err)
		require.True(t, isProbe)
		b.leave(true, time.Now(), answered, 0)
		require.False(t, b.isOpen())
	})
}

func TestSplit(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1,"visitors":[{"x":"]},{"},[2],"3\",",4],"b":{"visitors":[9]}}`: `{"a":1,"visitors":[{"x":"]},{"},[2]],"b":{"visitors":[9]}} {"a":1,"visitors":["3\",",4],"b":{"visitors":[9]}}`,
		" {\n\"visitors\" : [ 1 ,\t2 , 3 ] } ":                                " {\n\"visitors\" : [ 1 ] }   {\n\"visitors\" : [ 2 , 3 ] } ",
		`{"\u0076isitors":[true,null]}`:                                       `{"\u0076isitors":[true]} {"\u0076isitors":[null]}`,
		`{"x":"visitors","y":["visitors"],"visitors":[1.5e3,-2]}`:             `{"x":"visitors","y":["visitors"],"visitors":[1.5e3]} {"x":"visitors","y":["visitors"],"visitors":[-2]}`,
		`{"visitors":[1]}`:                  "",
		`{"visitors":[]}`:                   "",
		`{"visitors":{"a":[1,2]}}`:          "",
		`{"visitors":[1,2],"visitors":[1]}`: "",
		`{"x":{"visitors":[1,2]}}`:          "",
		`{"visitors":[1,2]`:                 "",
		`[{"visitors":[1,2]}]`:              "",
		`{"visitors":[1,2]} {}`:             "",
		``:                                  "",
		`3`:                                 "",
		`{}`:                                "",
		`"visitors"`:                        "",
	} {
		n, _ := CountVisitors([]byte(body))
		left, right, ok := Batch{Body: []byte(body), Visitors: n}.Split()
		require.Equal(t, want != "", ok, body)
		if ok {
			require.Equal(t, want, string(left.Body)+" "+string(right.Body))
			require.Equal(t, n, left.Visitors+right.Visitors)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"a":1,"visitors":[{"x":"]},{"},[2],"3\",",4]}`))
	f.Add([]byte(`{"visitors":[1 , 2],"b":[]}`))
	f.Add([]byte(`{"visitors":["\ud800",{"a":1,"a":2}],"b":"` + "\xff" + `"}`)) // JSON allows it
	f.Fuzz(func(t *testing.T, body []byte) {
		before := string(body)
		n, isBatch := CountVisitors(body)
		left, right, ok := Batch{Body: body}.Split()
		require.Equal(t, before, string(body), "the body is never changed")
		slow, isSlowBatch := findVisitorsSlowly(body)
		require.Equal(t, isSlowBatch, isBatch)
		if isBatch {
			require.Len(t, slow, n)
		}
		require.Equal(t, isBatch && n >= 2, ok)
		if !ok {
			return
		}
		l, isLeft := CountVisitors(left.Body)
		r, isRight := CountVisitors(right.Body)
		require.True(t, isLeft && isRight)
		require.Equal(t, n, l+r)
		// Joined again, they are the whole, but for the space around one comma.
		whole, _ := findVisitorsSlowly(body)
		parts, _ := findVisitorsSlowly(left.Body)
		others, _ := findVisitorsSlowly(right.Body)
		for i, w := range whole {
			from := left.Body
			if i >= l {
				from, parts, i = right.Body, others, i-l
			}
			require.Equal(t, string(body[w.Start:w.End]), string(from[parts[i].Start:parts[i].End]))
		}
		require.True(t, strings.HasPrefix(before, string(left.Body[:whole[0].Start])))
		require.True(t, strings.HasPrefix(before, string(right.Body[:whole[0].Start])))
	})
}
