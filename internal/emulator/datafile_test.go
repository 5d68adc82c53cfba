package emulator_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

func TestDatafile(t *testing.T) {
	em := start(t)
	first := get(t, em, "/datafiles/SdkKeyDemo1.json")
	assert.Equal(t, 200, first.status)
	assert.Equal(t, datafile, first.body)
	assert.Equal(t, "application/json", first.header.Get("Content-Type"))
	modified, tag := first.header.Get("Last-Modified"), first.header.Get("ETag")
	assert.Equal(t, "Thu, 01 Jan 2026 12:00:00 GMT", modified)
	require.NotEmpty(t, tag)

	status := func(headers ...string) int { return get(t, em, "/datafiles/SdkKeyDemo1.json", headers...).status }
	assert.Equal(t, 304, status("If-Modified-Since", modified))
	assert.Equal(t, 304, status("If-Modified-Since", "Thu, 01 Jan 2026 13:00:00 GMT"))
	assert.Equal(t, 200, status("If-Modified-Since", "Thu, 01 Jan 2026 11:00:00 GMT"))
	assert.Equal(t, 200, status("If-Modified-Since", "nonsense"))
	assert.Equal(t, 304, status("If-None-Match", tag))
	assert.Equal(t, 304, status("If-None-Match", `"other", `+tag))
	assert.Equal(t, 304, status("If-None-Match", "*"))
	assert.Equal(t, 200, status("If-None-Match", `"other"`))
	assert.Equal(t, 200, status("If-None-Match", `"other"`, "If-Modified-Since", modified), "the tag decides")
	assert.Equal(t, 403, get(t, em, "/datafiles/Other.json").status)
	assert.Equal(t, 403, get(t, em, "/datafiles/SdkKeyDemo1").status)
	assert.Equal(t, 405, post(t, em, "/datafiles/SdkKeyDemo1.json", "{}").status)
	head := do(t, http.MethodHead, em.URL()+"/datafiles/SdkKeyDemo1.json", "")
	assert.Equal(t, 200, head.status)
	assert.Empty(t, head.body)

	// The next revision in the same second must not look like the one before.
	faults, err := em.SetDatafile("SdkKeyDemo1", revision(8))
	require.NoError(t, err)
	require.NoError(t, faults)
	next := get(t, em, "/datafiles/SdkKeyDemo1.json", "If-Modified-Since", modified)
	assert.Equal(t, 200, next.status)
	assert.Equal(t, string(revision(8)), next.body)
	assert.Equal(t, "Thu, 01 Jan 2026 12:00:01 GMT", next.header.Get("Last-Modified"))
	assert.NotEqual(t, tag, next.header.Get("ETag"))
}

func TestDatafileHeadersAreFree(t *testing.T) {
	em := start(t)
	_, err := em.SetDatafile("K", revision(1), emulator.LastModified("A"), emulator.ETag(""))
	require.NoError(t, err)
	r := get(t, em, "/datafiles/K.json")
	assert.Equal(t, "A", r.header.Get("Last-Modified"))
	assert.NotContains(t, r.header, "Etag")
	assert.Equal(t, 304, get(t, em, "/datafiles/K.json", "If-Modified-Since", "A").status)

	_, err = em.SetDatafile("K", revision(1), emulator.LastModified(""))
	require.NoError(t, err)
	r = get(t, em, "/datafiles/K.json", "If-Modified-Since", "A")
	assert.Equal(t, 200, r.status)
	assert.NotContains(t, r.header, "Last-Modified")

	faults, err := em.SetDatafile("K", []byte("{broken"), emulator.LastModified("B"))
	require.NoError(t, err)
	assert.Error(t, faults, "it says what is wrong")
	r = get(t, em, "/datafiles/K.json")
	assert.Equal(t, "{broken", r.body, "and serves it")
	assert.Equal(t, "B", r.header.Get("Last-Modified"))
}

func TestDatafileGzip(t *testing.T) {
	em := start(t)
	r := get(t, em, "/datafiles/SdkKeyDemo1.json", "Accept-Encoding", "br, gzip")
	assert.Equal(t, "gzip", r.header.Get("Content-Encoding"))
	z, err := gzip.NewReader(bytes.NewReader([]byte(r.body)))
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, datafile, string(text))
	assert.Less(t, len(r.body), len(datafile))
	assert.Empty(t, get(t, em, "/datafiles/SdkKeyDemo1.json", "Accept-Encoding", "gzip;q=0").header.Get("Content-Encoding"))
}

func TestAuthenticatedDatafile(t *testing.T) {
	em := start(t)
	path := "/datafiles/auth/SdkKeyDemo1.json"
	assert.Equal(t, 401, get(t, em, path).status)
	assert.Equal(t, 401, get(t, em, path, "Authorization", "Basic TOK").status)
	assert.Equal(t, 403, get(t, em, path, "Authorization", "Bearer other").status)
	r := get(t, em, path, "Authorization", "Bearer TOK")
	assert.Equal(t, 200, r.status)
	assert.Equal(t, datafile, r.body)
	assert.Equal(t, 304, get(t, em, path, "Authorization", "Bearer TOK", "If-None-Match", r.header.Get("ETag")).status)
	attempts := em.Attempts("/datafiles/auth/")
	require.Len(t, attempts, 5)
	assert.Equal(t, "Bearer TOK", attempts[3].Header.Get("Authorization"))
	assert.False(t, attempts[0].Accepted)
	assert.True(t, attempts[3].Accepted)

	open := start(t, func(o *emulator.Options) { o.Token = "" })
	assert.Equal(t, 403, get(t, open, path, "Authorization", "Bearer x").status, "no token: nobody has it")
}

func TestSDKKeyOfTheStart(t *testing.T) {
	assert.Equal(t, "SdkKeyDemo1", start(t).SDKKey())
	assert.Equal(t, "mine", start(t, func(o *emulator.Options) { o.SDKKey = "mine" }).SDKKey())
	assert.Equal(t, "local", start(t, func(o *emulator.Options) { o.Datafile = []byte("{") }).SDKKey())
	assert.Empty(t, start(t, func(o *emulator.Options) { o.Datafile = nil }).SDKKey())
}

func TestPointODP(t *testing.T) {
	pointed, err := emulator.PointODP([]byte(datafile), "http://127.0.0.1:4")
	require.NoError(t, err)
	assert.JSONEq(t, strings.Replace(datafile, "http://127.0.0.1:1", "http://127.0.0.1:4", 1), string(pointed))
	for _, without := range []string{`{"integrations":[]}`, `{"integrations":[{"key":"other"}]}`, `{}`} {
		same, err := emulator.PointODP([]byte(without), "http://127.0.0.1:4")
		require.NoError(t, err)
		assert.Equal(t, without, string(same))
	}
	for _, bad := range []string{`{`, `[]`, `{"integrations":7}`} {
		_, err := emulator.PointODP([]byte(bad), "x")
		assert.Error(t, err, bad)
	}
}
