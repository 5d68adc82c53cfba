package datafile

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The poller's timing, in bubbles where time stands still while anybody works.

func bubble(t *testing.T, c PollConfig, steps []step, f func(*testing.T, *Poller, *cdn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := script(steps...)
		c.Client = &http.Client{Transport: server}
		if c.SDKKey == "" {
			c.SDKKey = "KEY"
		}
		p, err := NewPoller(c)
		require.NoError(t, err)
		stop := run(t, p)
		synctest.Wait()
		f(t, p, server)
		stop()
	})
}

const second = time.Second

func TestIntervalRunsFromTheEndOfAFetch(t *testing.T) { // CF-6
	slow := step{body: text("1", ""), delay: 4 * second}
	bubble(t, PollConfig{Interval: time.Minute}, []step{slow}, func(t *testing.T, p *Poller, server *cdn) {
		time.Sleep(200 * second)
		assert.Equal(t, []time.Duration{64 * second, 64 * second, 64 * second}, server.gaps(time.Millisecond))
	})
}

func TestIntervalRules(t *testing.T) { // CF-7
	for given, want := range map[time.Duration]time.Duration{
		0: 300 * second, -5 * second: 300 * second, 10 * second: 10 * second, 24 * time.Hour: 24 * time.Hour,
	} {
		bubble(t, PollConfig{Interval: given}, []step{{body: text("1", "")}}, func(t *testing.T, p *Poller, server *cdn) {
			assert.Equal(t, 1, server.count(), "the first fetch is immediate")
			time.Sleep(want - 1)
			synctest.Wait()
			assert.Equal(t, 1, server.count())
			time.Sleep(1 * time.Nanosecond)
			synctest.Wait()
			assert.Equal(t, 2, server.count())
		})
	}
}

func TestNextTryAfterAFailure(t *testing.T) { // CF-8
	bubble(t, PollConfig{}, []step{{status: 404}, {body: text("1", "")}}, func(t *testing.T, p *Poller, server *cdn) {
		require.ErrorIs(t, WaitReady(t.Context(), p, 299*second), ErrNotReady)
		assert.Equal(t, 1, server.count())
		require.NoError(t, WaitReady(t.Context(), p, 2*second))
		assert.Equal(t, []time.Duration{300 * second}, server.gaps(time.Millisecond))
	})
}

func TestQuickRetries(t *testing.T) { // CF-9
	ms := func(n ...int) []time.Duration {
		gaps := []time.Duration{}
		for _, x := range n {
			gaps = append(gaps, time.Duration(x)*time.Millisecond)
		}
		return gaps
	}
	after := func(value string) map[string]string { return map[string]string{"Retry-After": value} }
	for _, c := range []struct {
		name string
		step step
		want []time.Duration // between the GETs of one fetch
	}{
		{"200", step{body: text("1", "")}, ms()},
		{"304", step{status: 304}, ms()},
		{"500", step{status: 500}, ms(0, 200, 400)},
		{"502", step{status: 502}, ms(0, 200, 400)},
		{"503", step{status: 503}, ms(0, 200, 400)},
		{"504", step{status: 504}, ms(0, 200, 400)},
		{"501", step{status: 501}, ms()},
		{"403", step{status: 403}, ms()},
		{"404", step{status: 404}, ms()},
		{"400", step{status: 400}, ms()},
		{"429", step{status: 429}, ms()},
		{"413", step{status: 413}, ms()},
		{"429 with Retry-After", step{status: 429, header: after("7")}, ms(7000, 7000, 7000)},
		{"413 with Retry-After", step{status: 413, header: after("2")}, ms(2000, 2000, 2000)},
		{"503 with Retry-After", step{status: 503, header: after("1")}, ms(1000, 1000, 1000)},
		{"429 with Retry-After 0", step{status: 429, header: after("0")}, ms(0, 200, 400)},
		{"429 with nonsense", step{status: 429, header: after("soon")}, ms()},
		{"404 with Retry-After", step{status: 404, header: after("1")}, ms()},
		{"connection failure", step{isCut: true}, ms(0, 200, 400)},
		{"timeout", step{delay: time.Minute}, ms()},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, PollConfig{}, []step{c.step}, func(t *testing.T, p *Poller, server *cdn) {
				time.Sleep(100 * second)
				assert.Equal(t, c.want, server.gaps(time.Millisecond))
			})
		})
	}
	t.Run("503 with days to wait", func(t *testing.T) { // as if it hadn't said: at the interval
		bubble(t, PollConfig{Interval: 60 * second}, []step{{status: 503, header: after("86400")}, {status: 503, header: after("86400")}, {body: text("1", "")}},
			func(t *testing.T, p *Poller, server *cdn) {
				time.Sleep(130 * second)
				assert.Equal(t, ms(60_000, 60_000), server.gaps(time.Millisecond))
				assert.Equal(t, "1", p.Current().Revision())
			})
	})
	t.Run("429 with a date", func(t *testing.T) {
		at := time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC) // bubbles begin with the year 2000
		bubble(t, PollConfig{}, []step{{status: 429, header: after(at.Format(http.TimeFormat))}, {body: text("1", "")}},
			func(t *testing.T, p *Poller, server *cdn) {
				time.Sleep(10 * second)
				assert.Equal(t, ms(5000), server.gaps(time.Millisecond))
			})
	})
	t.Run("none wanted", func(t *testing.T) {
		bubble(t, PollConfig{Retries: -1}, []step{{status: 500}}, func(t *testing.T, p *Poller, server *cdn) {
			time.Sleep(100 * second)
			assert.Equal(t, 1, server.count())
			assert.Equal(t, 500, p.Status().HTTPStatus)
		})
	})
}

func TestTimeoutOfARequest(t *testing.T) {
	bubble(t, PollConfig{}, []step{{delay: time.Hour}}, func(t *testing.T, p *Poller, server *cdn) {
		time.Sleep(10*second - 1)
		synctest.Wait()
		assert.Zero(t, p.Status().Failures)
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		require.ErrorIs(t, p.Status().Err, context.DeadlineExceeded)
	})
}

func TestStopEndsARequestUnderWay(t *testing.T) {
	bubble(t, PollConfig{}, []step{{delay: time.Hour}}, func(t *testing.T, p *Poller, server *cdn) {
		start := time.Now()
		t.Cleanup(func() { assert.Zero(t, time.Since(start)) })
		assert.Zero(t, p.Status().Failures)
	})
	bubble(t, PollConfig{}, []step{{status: 503, header: map[string]string{"Retry-After": "1000000"}}},
		func(t *testing.T, p *Poller, server *cdn) { assert.Equal(t, 1, server.count()) })
}

func TestPursuit(t *testing.T) { // CF-P5
	old, news := step{body: text("7", "")}, step{body: text("8", "")}
	secondsOf := func(n ...int) []time.Duration {
		gaps := []time.Duration{}
		for _, x := range n {
			gaps = append(gaps, time.Duration(x)*second)
		}
		return gaps
	}
	for _, c := range []struct {
		name     string
		revision string
		steps    []step
		want     []time.Duration // after the refresh, which comes 10 s after the first fetch
	}{
		{"there at once", "8", []step{old, news}, secondsOf(10)},
		{"late by two", "8", []step{old, old, old, news}, secondsOf(10, 1, 2)},
		{"never", "8", []step{old}, secondsOf(10, 1, 2, 4, 8)},
		{"another one instead", "9", []step{old, old, news}, secondsOf(10, 1)},
		{"the one in force", "7", []step{old}, secondsOf(10)},
		{"one long past", "6", []step{old}, secondsOf(10)},
		{"not a number", "abc", []step{old}, secondsOf(10, 1, 2, 4, 8)},
		{"unknown", "", []step{old}, secondsOf(10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, PollConfig{}, c.steps, func(t *testing.T, p *Poller, server *cdn) {
				time.Sleep(10 * second)
				p.Refresh(c.revision)
				time.Sleep(100 * second)
				assert.Equal(t, c.want, server.gaps(time.Millisecond))
			})
		})
	}
	t.Run("interval goes on afterwards", func(t *testing.T) {
		bubble(t, PollConfig{}, []step{old}, func(t *testing.T, p *Poller, server *cdn) {
			p.Refresh("8")
			time.Sleep(320 * second)
			assert.Equal(t, secondsOf(0, 1, 2, 4, 8, 300), server.gaps(time.Millisecond))
		})
	})
	t.Run("a second message during a fetch", func(t *testing.T) {
		slow := step{body: text("7", ""), delay: 5 * second}
		bubble(t, PollConfig{Interval: time.Hour}, []step{old, slow, old}, func(t *testing.T, p *Poller, server *cdn) {
			p.Refresh("")
			time.Sleep(second)
			p.Refresh("8") // while the slow one is under way
			p.Refresh("8")
			time.Sleep(100 * second)
			assert.Equal(t, secondsOf(0, 5, 1, 2, 4, 8), server.gaps(time.Millisecond))
		})
	})
}

func TestCurrentIsNeverHeldUp(t *testing.T) { // CF-P4: not by a fetch, nor by a listener
	var isIn atomic.Bool
	release := make(chan struct{})
	server := script(step{body: text("1", "")})
	p, err := NewPoller(PollConfig{SDKKey: "K", URLTemplate: serve(t, server)})
	require.NoError(t, err)
	p.Listen(func(Update) { isIn.Store(true); <-release })
	run(t, p)
	eventually(t, "the listener", isIn.Load)
	assert.Equal(t, "1", p.Current().Revision())
	assert.Equal(t, "1", p.Status().Revision)
	require.NoError(t, WaitReady(t.Context(), p, 0))
	p.Refresh("2")
	p.Listen(func(Update) {})()
	close(release)
}

func TestWaitReady(t *testing.T) { // CF-17, CF-P4
	bubble(t, PollConfig{}, []step{{status: 403}}, func(t *testing.T, p *Poller, server *cdn) {
		start := time.Now()
		err := WaitReady(t.Context(), p, -1)
		assert.Equal(t, DefaultWait, time.Since(start))
		require.ErrorIs(t, err, ErrNotReady)
		require.ErrorIs(t, err, ErrForbidden)
		var refusal *StatusError
		require.ErrorAs(t, err, &refusal)

		start = time.Now()
		require.ErrorIs(t, WaitReady(t.Context(), p, 0), ErrNotReady)
		assert.Zero(t, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), 3*second)
		defer cancel()
		err = WaitReady(ctx, p, time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrNotReady)
		assert.Equal(t, 3*second, time.Since(start))
	})
}

func TestRunOnce(t *testing.T) {
	bubble(t, PollConfig{}, []step{{body: text("1", "")}}, func(t *testing.T, p *Poller, server *cdn) {
		require.ErrorIs(t, p.Run(t.Context()), ErrRunning)
	})
}
