package datafile

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// The fake CDN recipes of config.md section 10, by row, over real HTTP. Refresh
// stands for the interval, which poll_test.go looks after.

// polled is a poller on a scripted CDN.
type polled struct {
	*Poller
	t   *testing.T
	cdn *cdn
	journal
}

func poll(t *testing.T, change func(*PollConfig), steps ...step) *polled {
	t.Helper()
	server := script(steps...)
	p := pollAt(t, serve(t, server), change)
	p.cdn = server
	return p
}

// pollAt starts a poller and waits for its first fetch.
func pollAt(t *testing.T, template string, change func(*PollConfig)) *polled {
	t.Helper()
	p := &polled{t: t}
	c := PollConfig{SDKKey: "KEY", URLTemplate: template, Options: Options{OnUpdate: p.note}}
	if change != nil {
		change(&c)
	}
	var err error
	p.Poller, err = NewPoller(c)
	require.NoError(t, err)
	run(t, p)
	eventually(t, "the first attempt", func() bool { return !p.Status().LastAttempt.IsZero() })
	return p
}

// again makes one more fetch and waits for its end.
func (p *polled) again() {
	p.t.Helper()
	last := p.Status().LastAttempt
	p.Refresh("")
	eventually(p.t, "a refresh", func() bool { return p.Status().LastAttempt.After(last) })
}

func (p *polled) installed() string { return string(p.Current().Datafile()) }

func modified(value string) map[string]string { return map[string]string{"Last-Modified": value} }

const dateA, dateB = "Tue, 01 Sep 2026 10:00:00 GMT", "Wed, 02 Sep 2026 10:00:00 GMT"

func TestRecipe1NotModified(t *testing.T) {
	p := poll(t, nil, step{body: text("1", ""), header: modified(dateA)}, step{status: http.StatusNotModified})
	assert.Empty(t, p.cdn.request(0).Header.Values("If-Modified-Since"))
	for range 2 {
		p.again()
		assert.Equal(t, []string{dateA}, p.cdn.request(p.cdn.count()-1).Header.Values("If-Modified-Since"), "304 keeps what was stored")
	}
	assert.Equal(t, []string{"→1"}, p.revisions())
	s := p.Status()
	assert.Equal(t, http.StatusNotModified, s.HTTPStatus)
	require.NoError(t, s.Err)
	assert.Equal(t, OriginCDN, s.Origin)
	assert.Equal(t, p.Current().Digest(), s.Digest)
	assert.True(t, s.LastSuccess.After(s.ReceivedAt))
}

func TestRecipe2SameRevision(t *testing.T) {
	p := poll(t, nil, step{body: text("1", "first"), header: modified(dateA)}, step{body: text("1", "second")})
	p.again()
	p.again()
	assert.Equal(t, []string{"→1"}, p.revisions())
	assert.Equal(t, string(text("1", "first")), p.installed())
	assert.Equal(t, dateA, p.cdn.request(1).Header.Get("If-Modified-Since"))
	assert.Empty(t, p.cdn.request(2).Header.Values("If-Modified-Since"), "cleared by an answer without Last-Modified: CF-P2")
}

func TestRecipe3BrokenDatafile(t *testing.T) {
	p := poll(t, nil, step{body: text("1", ""), header: modified(dateA)}, step{body: []byte(`{"version":`), header: modified(dateB)})
	p.again()
	var invalid *decision.DatafileError
	require.ErrorAs(t, p.Status().Err, &invalid)
	p.again()
	assert.Equal(t, string(text("1", "")), p.installed())
	assert.Equal(t, dateA, p.cdn.request(2).Header.Get("If-Modified-Since"), "not B: CF-P1")
	assert.Equal(t, 2, p.Status().Failures)
	p.cdn.then(step{body: text("2", "")})
	p.again()
	assert.Equal(t, []string{"→1", "1→2"}, p.revisions())
	assert.Zero(t, p.Status().Failures)
}

func TestRecipe4LowerRevision(t *testing.T) {
	p := poll(t, nil, step{body: text("2", "")}, step{body: text("1", "")})
	p.again()
	assert.Equal(t, []string{"→2", "2→1"}, p.revisions())
	assert.Equal(t, "1", p.Status().Revision)
}

func TestRecipe5Refused(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
		p := poll(t, nil, step{body: text("1", "")}, step{status: status})
		p.again()
		p.again()
		assert.Equal(t, 3, p.cdn.count(), "one GET a poll")
		assert.Equal(t, string(text("1", "")), p.installed())
		s := p.Status()
		assert.Equal(t, status, s.HTTPStatus)
		var refusal *StatusError
		require.ErrorAs(t, s.Err, &refusal)
		assert.Equal(t, status, refusal.Code)
		assert.Equal(t, status == http.StatusForbidden, assert.ObjectsAreEqual(refusal.Unwrap(), ErrForbidden), "CF-16")
	}
}

func TestRecipe6QuickRetries(t *testing.T) {
	failing := step{status: http.StatusInternalServerError}
	start := time.Now()
	p := poll(t, nil, failing, failing, failing, step{body: text("1", "")})
	assert.Equal(t, 4, p.cdn.count())
	assert.InDelta(t, 0.6, time.Since(start).Seconds(), 0.3)
	assert.Equal(t, "1", p.Current().Revision())
	assert.Equal(t, []string{"→1"}, p.revisions())
}

func TestRecipe7AccessToken(t *testing.T) {
	server := script(step{body: text("1", "")})
	template := serve(t, server)
	p, err := NewPoller(PollConfig{SDKKey: "KEY", AccessToken: "TOK", URLTemplate: template})
	require.NoError(t, err)
	run(t, p)
	require.NoError(t, WaitReady(t.Context(), p, time.Minute))
	r := server.request(0)
	assert.Equal(t, "Bearer TOK", r.Header.Get("Authorization"), "with an own template too")
	assert.Equal(t, http.MethodGet, r.Method)
	assert.Equal(t, "/datafiles/KEY.json", r.URL.Path)

	authenticated := script(step{body: text("1", "")})
	p, err = NewPoller(PollConfig{SDKKey: "KEY", AccessToken: "TOK", Client: &http.Client{Transport: authenticated}})
	require.NoError(t, err)
	run(t, p)
	require.NoError(t, WaitReady(t.Context(), p, time.Minute))
	r = authenticated.request(0)
	assert.Equal(t, "https://config.optimizely.com/datafiles/auth/KEY.json", r.URL.String())
	assert.Equal(t, "Bearer TOK", r.Header.Get("Authorization"))
}

func TestRecipe8UnsupportedVersion(t *testing.T) {
	p := poll(t, nil, step{body: text("1", "")}, step{body: []byte(`{"version":"5","revision":"2"}`)})
	p.again()
	require.ErrorIs(t, p.Status().Err, decision.ErrUnsupportedVersion)
	assert.Equal(t, "1", p.Current().Revision())
	assert.Equal(t, []string{"→1"}, p.revisions())
}

func TestRecipe9Slow(t *testing.T) {
	p := poll(t, func(c *PollConfig) { c.Timeout = 200 * time.Millisecond },
		step{body: text("1", "")}, step{body: text("2", ""), delay: time.Minute})
	p.again()
	require.ErrorContains(t, p.Status().Err, "deadline exceeded")
	assert.Equal(t, 2, p.cdn.count(), "a timeout is not repeated at once")
	assert.Equal(t, "1", p.Current().Revision())
}

func TestRecipe10Webhook(t *testing.T) {
	p := poll(t, nil, step{body: text("7", "")}, step{body: text("8", "")})
	hook, err := NewWebhook(WebhookConfig{
		Projects:   []WebhookProject{{ID: "880022", SDKKeys: []string{"KEY", "not loaded"}, Secret: "s3cret"}},
		Refreshers: map[string]Refresher{"KEY": p, "KEY2": nil},
	})
	require.NoError(t, err)

	body := webhookMessage(`880022`, `8`)
	assert.Equal(t, http.StatusBadRequest, post(hook, body, "sha1=00").Code)
	assert.Equal(t, http.StatusNoContent, post(hook, webhookMessage(`1`, `8`), "").Code)
	assert.Equal(t, 1, p.cdn.count(), "neither has an effect")
	last := p.Status().LastAttempt
	assert.Equal(t, http.StatusNoContent, post(hook, body, sign(body, "s3cret")).Code)
	eventually(t, "the refresh", func() bool { return p.Status().LastAttempt.After(last) })
	assert.Equal(t, []string{"→7", "7→8"}, p.revisions())
	assert.Equal(t, map[string]uint64{"refresh": 1, "unknown_project": 1, "unknown_event": 0, "unreadable": 0, "bad_signature": 1}, hook.Counts())
}
