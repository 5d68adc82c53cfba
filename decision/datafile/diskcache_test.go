package datafile

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCacheOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.cache")
	synctest.Test(t, func(t *testing.T) {
		server := script(step{body: text("1", ""), header: map[string]string{"Last-Modified": dateA, "ETag": `"a"`}})
		start := func() (*Poller, func()) {
			p, err := NewPoller(PollConfig{SDKKey: "KEY", CachePath: path, Client: &http.Client{Transport: server}})
			require.NoError(t, err)
			stop := run(t, p)
			return p, stop
		}
		p, stop := start()
		require.NoError(t, WaitReady(t.Context(), p, time.Second))
		born := time.Now()
		stop()

		for name, away := range map[string]step{"refused": {status: 403}, "down": {status: 500}, "unreachable": {isCut: true}, "broken": {body: []byte("{")}} {
			time.Sleep(time.Hour)
			server.then(away)
			p, stop := start()
			require.NoError(t, WaitReady(t.Context(), p, time.Second), name)
			synctest.Wait()
			s := p.Status()
			assert.Equal(t, OriginCache, s.Origin)
			assert.Equal(t, "1", s.Revision)
			assert.Equal(t, time.Since(born), s.Age(time.Now()), "its age is that of the fetch")
			require.Error(t, s.Err, "the failure is still to be seen")

			server.then(step{status: 304})
			before := server.count()
			p.Refresh("")
			synctest.Wait()
			r := server.request(before)
			assert.Equal(t, dateA, r.Header.Get("If-Modified-Since"), "what the server knows it by was kept too")
			assert.Equal(t, `"a"`, r.Header.Get("If-None-Match"))
			require.NoError(t, p.Status().Err)
			stop()
		}

		server.then(step{body: text("2", "")})
		p, stop = start()
		require.NoError(t, WaitReady(t.Context(), p, time.Second))
		synctest.Wait()
		assert.Equal(t, "2", p.Current().Revision(), "the CDN goes first")
		assert.Empty(t, server.request(server.count()-1).Header.Get("If-None-Match"))
		stop()
		server.then(step{status: 500})
		p, stop = start()
		require.NoError(t, WaitReady(t.Context(), p, time.Second))
		assert.Equal(t, "2", p.Current().Revision())
		stop()
	})
}

// A CDN that hangs doesn't hold up a start for its whole timeout.
func TestCacheWhenTheCDNHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.cache")
	cache := &diskCache{path: path, origin: digestOf([]byte("https://cdn.optimizely.com/datafiles/KEY.json"))}
	require.NoError(t, cache.save(text("1", ""), validators{lastModified: dateA}, time.Now()))
	slow := step{body: text("2", ""), delay: 8 * second}
	bubble(t, PollConfig{CachePath: path, Interval: time.Hour}, []step{slow, {status: 304}}, func(t *testing.T, p *Poller, server *cdn) {
		start := time.Now()
		require.NoError(t, WaitReady(t.Context(), p, -1))
		assert.Equal(t, DefaultCacheAfter, time.Since(start))
		assert.Equal(t, "1", p.Current().Revision())
		time.Sleep(8 * second)
		synctest.Wait()
		assert.Equal(t, "2", p.Current().Revision())
		p.Refresh("")
		synctest.Wait()
		assert.Empty(t, server.request(1).Header.Get("If-Modified-Since"), "that of the cached one is forgotten")
	})
	// Stopped in between, nothing is left running (goleak, and the bubble's end).
	bubble(t, PollConfig{CachePath: path}, []step{slow}, func(*testing.T, *Poller, *cdn) {})
}

func TestCacheThatIsOfNoUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.cache")
	address := "https://cdn.optimizely.com/datafiles/KEY.json"
	good := &diskCache{path: path, origin: digestOf([]byte(address))}
	require.NoError(t, good.save(text("1", ""), validators{}, time.Now()))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotContains(t, string(content[:len(content)-len(text("1", ""))]), "KEY", "the key isn't in it")
	invalid := &diskCache{path: filepath.Join(t.TempDir(), "x"), origin: good.origin}
	require.NoError(t, invalid.save([]byte("{}"), validators{}, time.Now()))
	uncompilable, err := os.ReadFile(invalid.path)
	require.NoError(t, err)
	for name, c := range map[string][]byte{
		"nothing": nil, "cut": content[:len(content)-1], "changed": append(content[:len(content)-1:len(content)-1], 'x'),
		"no head": text("1", ""), "invalid": uncompilable,
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, c)
			bubble(t, PollConfig{CachePath: path}, []step{{status: 404}}, func(t *testing.T, p *Poller, _ *cdn) { assert.Nil(t, p.Current()) })
		})
	}
	write(t, path, content)
	bubble(t, PollConfig{CachePath: path, SDKKey: "OTHER"}, []step{{status: 404}}, func(t *testing.T, p *Poller, _ *cdn) { assert.Nil(t, p.Current()) })
	bubble(t, PollConfig{CachePath: path, Datafile: text("given", "")}, []step{{status: 404}}, func(t *testing.T, p *Poller, _ *cdn) {
		assert.Equal(t, "given", p.Current().Revision(), "an explicit datafile goes before an old one")
	})
	bubble(t, PollConfig{CachePath: path}, []step{{status: 404}}, func(t *testing.T, p *Poller, _ *cdn) { assert.Equal(t, "1", p.Current().Revision()) })
}

func TestCacheThatCantBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no such folder", "cache")
	bubble(t, PollConfig{CachePath: path}, []step{{body: text("1", "")}}, func(t *testing.T, p *Poller, _ *cdn) {
		assert.Equal(t, "1", p.Current().Revision())
	})
}
