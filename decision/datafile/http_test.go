package datafile

import (
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestETag(t *testing.T) { // CF-P3
	tagged := func(revision, tag string) step {
		return step{body: text(revision, ""), header: map[string]string{"ETag": tag}}
	}
	p := poll(t, nil, tagged("1", `W/"one"`), step{status: 304}, step{body: []byte("broken"), header: map[string]string{"ETag": `"bad"`}}, step{body: text("2", "")}, step{body: text("3", "")})
	for range 4 {
		p.again()
	}
	var sent []string
	for i := range 5 {
		sent = append(sent, p.cdn.request(i).Header.Get("If-None-Match"))
	}
	assert.Equal(t, []string{"", `W/"one"`, `W/"one"`, `W/"one"`, ""}, sent)
	assert.Empty(t, p.cdn.request(1).Header.Values("If-Modified-Since"))
}

func TestGzip(t *testing.T) {
	var accepted atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepted.Store(r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(text("1", strings.Repeat("long ", 10_000)))
		_ = z.Close()
	}))
	t.Cleanup(server.Close)
	p, err := NewPoller(PollConfig{URL: server.URL})
	require.NoError(t, err)
	run(t, p)
	require.NoError(t, WaitReady(t.Context(), p, time.Minute))
	assert.Equal(t, "gzip", accepted.Load())

	// The limit counts what was unpacked.
	p, err = NewPoller(PollConfig{URL: server.URL, Options: Options{MaxSize: 40_000}})
	require.NoError(t, err)
	run(t, p)
	eventually(t, "an attempt", func() bool { return p.Status().Failures > 0 })
	require.ErrorIs(t, p.Status().Err, ErrTooLarge)
}

func TestSizeLimit(t *testing.T) {
	exact := text("1", "")
	p := poll(t, func(c *PollConfig) { c.MaxSize = int64(len(exact)) }, step{body: exact}, step{body: append(text("2", ""), ' ')})
	assert.Equal(t, "1", p.Current().Revision())
	p.again()
	require.ErrorIs(t, p.Status().Err, ErrTooLarge)
	assert.Equal(t, 2, p.cdn.count())
	assert.Equal(t, "1", p.Current().Revision())
}

func TestRedirect(t *testing.T) { // CF-15
	p := poll(t, func(c *PollConfig) { c.AccessToken = "TOK" },
		step{status: http.StatusFound, header: map[string]string{"Location": "/elsewhere"}}, step{body: text("1", "")})
	assert.Equal(t, "1", p.Current().Revision())
	assert.Equal(t, "/elsewhere", p.cdn.request(1).URL.Path)
	assert.Equal(t, "Bearer TOK", p.cdn.request(1).Header.Get("Authorization"))
	p.cdn.then(step{status: http.StatusMultipleChoices, body: text("2", "")})
	p.again()
	assert.Equal(t, "2", p.Current().Revision(), "a 3xx that leads nowhere is taken at its content")
}

func TestTokenStaysAtHome(t *testing.T) {
	stranger := script(step{body: text("1", "")})
	there := httptest.NewServer(stranger)
	t.Cleanup(there.Close)
	away := strings.Replace(there.URL, "127.0.0.1", "localhost", 1)
	p := poll(t, func(c *PollConfig) { c.AccessToken = "TOK" }, step{status: http.StatusFound, header: map[string]string{"Location": away}})
	assert.Equal(t, "1", p.Current().Revision())
	assert.Empty(t, stranger.request(0).Header.Values("Authorization"))
}

func TestCutConnectionIsRetried(t *testing.T) {
	p := poll(t, nil, step{isCut: true}, step{isCut: true}, step{body: text("1", "")})
	assert.Equal(t, "1", p.Current().Revision())
	assert.GreaterOrEqual(t, p.cdn.count(), 3)
}

func TestEmptyBody(t *testing.T) { // section 4, step 1
	p := poll(t, nil, step{header: modified(dateA)}, step{body: text("1", "")}, step{header: modified(dateB)})
	assert.Nil(t, p.Current())
	require.ErrorIs(t, p.Status().Err, ErrEmpty)
	p.again()
	assert.Empty(t, p.cdn.request(1).Header.Values("If-Modified-Since"))
	p.again()
	assert.Equal(t, "1", p.Current().Revision())
}

func TestFirstReplyBroken(t *testing.T) { // CF-14 and CF-P4: not ready is not ready
	p := poll(t, nil, step{body: []byte("{")}, step{body: text("1", "")})
	require.ErrorIs(t, WaitReady(t.Context(), p, 20*time.Millisecond), ErrNotReady)
	p.again()
	require.NoError(t, WaitReady(t.Context(), p, 0))
}

func TestDatafileAndSDKKey(t *testing.T) { // section 1, "both"
	p := poll(t, func(c *PollConfig) { c.Datafile = text("1", "given") }, step{body: text("1", "fetched")}, step{body: text("2", "")})
	assert.Equal(t, string(text("1", "given")), p.installed(), "same revision: ignored")
	assert.Equal(t, OriginGiven, p.Status().Origin)
	p.again()
	assert.Equal(t, []string{"→1", "1→2"}, p.revisions())
	assert.Equal(t, OriginCDN, p.Status().Origin)
	assert.Equal(t, "KEY", p.SDKKey())
}

func TestUnmodifiedWithoutAsking(t *testing.T) {
	p := poll(t, nil, step{status: http.StatusNotModified})
	require.NoError(t, p.Status().Err)
	assert.Nil(t, p.Current())
}

func TestBadDatafileAndSDKKey(t *testing.T) {
	p, err := NewPoller(PollConfig{SDKKey: "K", Datafile: []byte("{")})
	require.NoError(t, err)
	assert.Nil(t, p.Current())
	s := p.Status()
	require.ErrorContains(t, s.Err, "invalid datafile")
	assert.Zero(t, s.LastAttempt)
	assert.Zero(t, s.Failures)
}
