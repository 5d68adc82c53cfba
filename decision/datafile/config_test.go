package datafile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

func TestAddress(t *testing.T) { // section 2, CF-3, CF-4
	for _, c := range []struct {
		config PollConfig
		want   string
	}{
		{PollConfig{SDKKey: "K"}, "https://cdn.optimizely.com/datafiles/K.json"},
		{PollConfig{SDKKey: "K", AccessToken: "T"}, "https://config.optimizely.com/datafiles/auth/K.json"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/{sdk_key}/x"}, "http://h/K/x"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/%s"}, "http://h/K"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/%s", AccessToken: "T"}, "http://h/K"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/fixed"}, "http://h/fixed"},
		{PollConfig{SDKKey: "a/b?c", URLTemplate: "http://h/%s"}, "http://h/a%2Fb%3Fc"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/%s", URL: "https://other/{file}"}, "https://other/{file}"},
		{PollConfig{URL: "https://other/file"}, "https://other/file"},
		{PollConfig{Datafile: text("1", "")}, "https://cdn.optimizely.com/datafiles/KeyOfFile.json"},
		{PollConfig{Datafile: text("1", ""), SDKKey: "K"}, "https://cdn.optimizely.com/datafiles/K.json"},
	} {
		p, err := NewPoller(c.config)
		require.NoError(t, err)
		assert.Equal(t, c.want, p.address)
	}
}

func TestConstructionErrors(t *testing.T) { // CF-3, CF-5, CF-7
	for _, c := range []struct {
		config PollConfig
		want   string
	}{
		{PollConfig{}, "neither an SDK key nor a URL"},
		{PollConfig{URLTemplate: "http://h/%s"}, "neither an SDK key nor a URL"},
		{PollConfig{Datafile: []byte("broken")}, "neither an SDK key nor a URL"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/{key}"}, "unknown placeholder {key}"},
		{PollConfig{SDKKey: "K", URLTemplate: "http://h/{}"}, "unknown placeholder {}"},
		{PollConfig{SDKKey: "K", Authenticated: true}, "access token is empty"},
		{PollConfig{SDKKey: "SeCrEt", URLTemplate: "ftp://h/%s"}, "not an absolute http"},
		{PollConfig{URL: "/relative/SeCrEt"}, "not an absolute http"},
		{PollConfig{URL: "http://h/\x7fSeCrEt"}, "not an absolute http"},
		{PollConfig{SDKKey: "K", Timeout: -1}, "Timeout"},
		{PollConfig{SDKKey: "K", Options: Options{MaxSize: -1}}, "MaxSize"},
	} {
		_, err := NewPoller(c.config)
		require.ErrorContains(t, err, c.want)
		assert.NotContains(t, err.Error(), "SeCrEt")
	}
}

func TestShortIntervalIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	o := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	_, err := NewPoller(PollConfig{SDKKey: "K", Interval: 30 * time.Second, Options: o})
	require.NoError(t, err)
	assert.Empty(t, log.String())
	_, err = NewPoller(PollConfig{SDKKey: "K", Interval: 29 * time.Second, Options: o})
	require.NoError(t, err)
	assert.Contains(t, log.String(), "not recommended")
}

func TestOpen(t *testing.T) { // section 1
	path := filepath.Join(t.TempDir(), "d.json")
	require.NoError(t, os.WriteFile(path, text("5", ""), 0o600))
	for _, c := range []struct {
		config   Config
		want     any
		revision string
	}{
		{Config{}, &Static{}, ""},
		{Config{Poll: PollConfig{Datafile: text("1", "")}}, &Static{}, "1"},
		{Config{Path: path}, &File{}, ""},
		{Config{Poll: PollConfig{SDKKey: "K"}}, &Poller{}, ""},
		{Config{Poll: PollConfig{URL: "http://h/d"}}, &Poller{}, ""},
		{Config{Poll: PollConfig{SDKKey: "K", Datafile: text("1", "")}}, &Poller{}, "1"},
		{Config{Poll: PollConfig{SDKKey: "K"}, Path: path}, &Poller{}, "5"},
		{Config{Poll: PollConfig{SDKKey: "K", Datafile: []byte("{")}}, &Poller{}, ""},
	} {
		s, err := Open(c.config)
		require.NoError(t, err)
		assert.IsType(t, c.want, s)
		revision := ""
		if p := s.Current(); p != nil {
			revision = p.Revision()
		}
		assert.Equal(t, c.revision, revision)
		assert.Equal(t, c.revision, s.Status().Revision)
	}
	for want, c := range map[string]Config{
		"needs an SDK key":          {Path: path, Poll: PollConfig{AccessToken: "T"}},
		"token is empty":            {Poll: PollConfig{SDKKey: "K", Authenticated: true}},
		"both a path":               {Path: path, Poll: PollConfig{Datafile: text("1", "")}},
		"no such file":              {Path: path + "x", Poll: PollConfig{SDKKey: "K"}},
		"invalid datafile":          {Poll: PollConfig{Datafile: []byte("{")}},
		"exceeds the size limit of": {Path: path, Poll: PollConfig{SDKKey: "K", Options: Options{MaxSize: 10}}},
	} {
		s, err := Open(c)
		require.ErrorContains(t, err, want)
		assert.Nil(t, s)
	}
}

func TestStatic(t *testing.T) {
	given := text("1", "")
	var seen journal
	s, err := NewStatic(given, Options{OnUpdate: seen.note})
	require.NoError(t, err)
	given[0] = 'x' // the source has its own copy
	assert.Equal(t, string(text("1", "")), string(s.Current().Datafile()))
	assert.Equal(t, []string{"→1"}, seen.revisions(), "announced once, also the initial one: CF-19")
	require.NoError(t, WaitReady(t.Context(), s, 0))
	run(t, s)()
	assert.Equal(t, OriginGiven, s.Status().Origin)

	none, err := NewStatic(nil, Options{})
	require.NoError(t, err)
	assert.Nil(t, none.Current())
	require.ErrorIs(t, WaitReady(t.Context(), none, time.Millisecond), ErrNotReady)

	_, err = NewStatic([]byte(`{"version":"5"}`), Options{})
	require.ErrorIs(t, err, decision.ErrUnsupportedVersion)
	_, err = NewStatic([]byte(`{"version":"4","revision":"1"}`), Options{})
	var invalid *decision.DatafileError
	require.ErrorAs(t, err, &invalid)
	path := filepath.Join(t.TempDir(), "d.json")
	write(t, path, text("1", ""))
	huge, err := NewFile(FileConfig{Path: path, Options: Options{MaxSize: math.MaxInt64}})
	require.NoError(t, err)
	run(t, huge)
	require.NoError(t, WaitReady(t.Context(), huge, time.Minute), "no limit is no limit")
	s, err = NewStatic([]byte(`{"version":"4","revision":"1","experiments":[],"groups":[]}`), Options{SkipSchemaValidation: true})
	require.NoError(t, err)
	assert.Equal(t, "1", s.Current().Revision())
}

func TestSecretIsNotPrinted(t *testing.T) {
	s := Secret("hush")
	encoded, err := json.Marshal(map[string]any{"config": PollConfig{AccessToken: s}.AccessToken})
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("secret", s), slog.Any("project", WebhookProject{Secret: s}))
	all := fmt.Sprintf("%s|%v|%+v|%#v|%q|%v", s, s, WebhookProject{Secret: s}, s, s, []Secret{s}) + string(encoded) + log.String()
	assert.NotContains(t, all, "hush")
	assert.Contains(t, all, "[redacted]")
	assert.Empty(t, Secret("").String())
}

// Whatever fails, the SDK key and the token are in no error and no log.
func TestNothingSecretInErrorsAndLogs(t *testing.T) {
	const key, token = "SdkKeySecret", "TokenSecret"
	failures := map[string]http.RoundTripper{
		"status":     script(step{status: 403}),
		"redirects":  script(step{status: 302, header: map[string]string{"Location": "/datafiles/" + key + ".json"}}),
		"location":   script(step{status: 302, header: map[string]string{"Location": "http://" + key + ":x y/"}}),
		"connection": script(step{isCut: true}),
		"broken":     script(step{body: []byte(`{"version":"4"}`)}),
		"transport":  failing{fmt.Errorf("dial %s with Bearer %s", key, token)},
	}
	for name, transport := range failures {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			p, err := NewPoller(PollConfig{
				SDKKey: key, AccessToken: token, Retries: -1, Client: &http.Client{Transport: transport},
				CachePath: filepath.Join(t.TempDir(), "cache"), Options: Options{Logger: logger},
			})
			require.NoError(t, err)
			stop := run(t, p)
			eventually(t, "an attempt", func() bool { return p.Status().Err != nil })
			stop()
			s := p.Status()
			all := fmt.Sprintf("%v|%+v|%s|%v", s.Err, s, log.String(), WaitReady(t.Context(), p, 0))
			assert.NotContains(t, all, key)
			assert.NotContains(t, all, token)
			assert.Contains(t, log.String(), "datafile not updated")
		})
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
