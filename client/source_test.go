package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/decision/datafile"
	"sortition/internal/emulator"
)

func revision(t *testing.T, n string) []byte {
	d := worked(t)
	d["revision"] = n
	return text(t, d)
}

// What New makes of a datafile, an SDK key, a token. Source: config.md section 1,
// pages.md I-1 to I-4, I-8, I-10.
func TestNew(t *testing.T) {
	good := revision(t, "1")
	bad := []byte(`{"version":"4"`)
	odd := worked(t)
	odd["accountId"] = 1001 // a number, where the schema wants text
	var datafileError *decision.DatafileError
	for name, row := range map[string]struct {
		options []Option
		isReady bool
		isErr   error // errors.Is; errAny: any; nil: none
	}{
		"nothing":               {nil, false, ErrNoSource},
		"empty datafile":        {[]Option{WithDatafile(nil)}, false, ErrNoSource},
		"empty key":             {[]Option{WithSDKKey("")}, false, ErrNoSource},
		"token without key":     {[]Option{WithAccessToken("t")}, false, ErrNoSource},
		"datafile":              {[]Option{WithDatafile(good)}, true, nil},
		"key":                   {[]Option{WithSDKKey("k")}, false, nil},
		"url":                   {[]Option{WithDatafileURL("http://h/d.json")}, false, nil},
		"both":                  {[]Option{WithDatafile(good), WithSDKKey("k")}, true, nil},
		"key and token":         {[]Option{WithSDKKey("k"), WithAccessToken("t")}, false, nil},
		"empty token":           {[]Option{WithSDKKey("k"), WithAccessToken("")}, false, errAny},
		"datafile and token":    {[]Option{WithDatafile(good), WithAccessToken("t")}, false, errAny},
		"bad datafile":          {[]Option{WithDatafile(bad)}, false, errAny},
		"bad datafile and key":  {[]Option{WithDatafile(bad), WithSDKKey("k")}, false, nil},
		"schema":                {[]Option{WithDatafile(text(t, odd))}, false, errAny},
		"without schema":        {[]Option{WithDatafile(text(t, odd)), WithoutSchemaValidation()}, true, nil},
		"template":              {[]Option{WithSDKKey("k"), WithDatafileURLTemplate("http://h/{nope}")}, false, errAny},
		"batch size":            {[]Option{WithDatafile(good), WithEventBatchSize(0)}, false, errAny},
		"flush interval":        {[]Option{WithDatafile(good), WithEventFlushInterval(-1)}, false, errAny},
		"close timeout":         {[]Option{WithDatafile(good), WithCloseTimeout(0)}, false, errAny},
		"request timeout":       {[]Option{WithDatafile(good), WithEventRequestTimeout(0)}, false, errAny},
		"queue size":            {[]Option{WithDatafile(good), WithEventQueueSize(0)}, false, errAny},
		"endpoint":              {[]Option{WithDatafile(good), WithEventEndpoint("ftp://h")}, false, errAny},
		"outbox":                {[]Option{WithDatafile(good), WithOutbox("", OutboxOptions{})}, false, errAny},
		"prediction endpoint":   {[]Option{WithDatafile(good), WithCMABPredictionEndpoint("http://h/")}, false, errAny},
		"everything about CMAB": {[]Option{WithDatafile(good), WithCMABPredictionEndpoint("http://h/%s"), WithCMABCacheSize(0), WithCMABCacheTTL(0), WithCMABCache(nil)}, true, nil},
		"everything about ODP": {[]Option{
			WithDatafile(good), WithoutODP(), WithSegmentsCacheSize(0), WithSegmentsCacheTimeout(0), WithSegmentsCache(nil), WithSegmentRequestTimeout(0),
			WithODPEventRequestTimeout(0), WithODPEventFlushInterval(0), WithODPEventSender(nil), WithSegmentFetcher(nil),
		}, true, nil},
	} {
		c, err := New(row.options...)
		switch {
		case row.isErr == nil:
			require.NoError(t, err, name)
			require.Equal(t, row.isReady, c.IsReady(), name)
			require.NoError(t, c.Close(t.Context()), name)
		default:
			require.Error(t, err, name)
			require.Nil(t, c, name)
			if !errors.Is(row.isErr, errAny) {
				require.ErrorIs(t, err, row.isErr, name)
			}
		}
		if name == "bad datafile" || name == "schema" {
			require.ErrorAs(t, err, &datafileError, name)
		}
	}
	// With something to poll for, a bad datafile is only reported.
	errs := &errorLog{}
	c, err := New(WithDatafile(bad), WithSDKKey("k"), WithErrorHandler(errs.handle))
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	require.Len(t, errs.all(), 1)
	require.ErrorAs(t, errs.all()[0], &datafileError)
	// What the options say is kept as they say it.
	c, err = New(WithDatafile(good), WithSegmentsCacheSize(0), WithSegmentsCacheTimeout(0), WithODPEventFlushInterval(0), WithSegmentRequestTimeout(0))
	require.NoError(t, err)
	require.Equal(t, odpSettings{segmentTimeout: 10 * time.Second, eventTimeout: 10 * time.Second}, c.settings.odp)
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, odpSettings{
		cacheSize: 10_000, cacheTimeout: 600 * time.Second, segmentTimeout: 10 * time.Second, eventTimeout: 10 * time.Second, eventFlushInterval: time.Second,
	}, defaultSettings().odp)
}

var errAny = errors.New("any")

// Source: pages.md I-2, I-4, I-10, config.md sections 2 to 5.
func TestPolling(t *testing.T) {
	em := emulator.Start(t, emulator.Options{SDKKey: "KEY", Datafile: revision(t, "1"), Token: "TOKEN"})
	n := NewNotifications()
	updates := make(chan ConfigUpdateNotification, 10)
	n.OnConfigUpdate(func(u ConfigUpdateNotification) { updates <- u })
	errs := &errorLog{}
	c, err := Open(t.Context(), WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithPollingInterval(5*time.Millisecond),
		WithNotifications(n), WithErrorHandler(errs.handle))
	require.NoError(t, err)
	defer c.Close(context.Background())
	require.Equal(t, ConfigUpdateNotification{NewRevision: "1"}, <-updates)
	require.Equal(t, "1", c.OptimizelyConfig().Revision)
	first := c.OptimizelyConfig()
	require.Same(t, first, c.OptimizelyConfig(), "one object until the next datafile")
	require.JSONEq(t, string(revision(t, "1")), string(c.Datafile()))
	_, err = em.SetDatafile("KEY", revision(t, "2"))
	require.NoError(t, err)
	require.Equal(t, ConfigUpdateNotification{OldRevision: "1", NewRevision: "2"}, <-updates)
	require.Equal(t, "2", c.OptimizelyConfig().Revision)

	// An invalid update is reported, and the old one stays.
	_, err = em.SetDatafile("KEY", []byte(`{"version":"5"}`))
	require.NoError(t, err)
	eventually(t, func() bool { return len(errs.all()) > 0 }, "error handler")
	require.ErrorIs(t, errs.all()[0], decision.ErrUnsupportedVersion)
	status, ok := c.DatafileStatus()
	require.True(t, ok)
	require.ErrorIs(t, status.Err, decision.ErrUnsupportedVersion)
	require.Equal(t, "2", status.Revision)
	require.Equal(t, 200, status.HTTPStatus)
	require.Equal(t, datafile.OriginCDN, status.Origin)
	require.Positive(t, status.Age(time.Now()))
	require.True(t, c.NewUser("u1", nil).Decide(t.Context(), "rollout_fr").Enabled)
	require.NoError(t, c.Close(t.Context()))
	requests := em.Requests(emulator.RouteDatafile)
	require.Equal(t, "2", c.OptimizelyConfig().Revision, "a closed client decides with its last datafile")
	require.True(t, c.NewUser("u1", nil).Decide(t.Context(), "rollout_fr").Enabled)
	require.Equal(t, requests, em.Requests(emulator.RouteDatafile))

	// The token selects the other address.
	c, err = Open(t.Context(), WithSDKKey("KEY"), WithAccessToken("TOKEN"), WithDatafileURLTemplate(em.URLs().AuthDatafile), WithReadyTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, ErrNotReady, "the datafile there is broken")
	require.Nil(t, c)
	_, err = em.SetDatafile("KEY", revision(t, "3"))
	require.NoError(t, err)
	c, err = Open(t.Context(), WithSDKKey("KEY"), WithAccessToken("TOKEN"), WithDatafileURLTemplate(em.URLs().AuthDatafile))
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, "Bearer TOKEN", em.Attempts("/datafiles/auth/")[0].Header.Get("Authorization"))

	// Both: the given one at once, the fetched one when its revision differs.
	n = NewNotifications()
	n.OnConfigUpdate(func(u ConfigUpdateNotification) { updates <- u })
	c, err = New(WithDatafile(revision(t, "0")), WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithNotifications(n))
	require.NoError(t, err)
	defer c.Close(context.Background())
	require.Equal(t, ConfigUpdateNotification{NewRevision: "0"}, <-updates)
	require.True(t, c.IsReady())
	c.Start()
	c.Start()
	require.Equal(t, ConfigUpdateNotification{OldRevision: "0", NewRevision: "3"}, <-updates)
}

// Source: config.md CF-17, CF-P4.
func TestWaitReady(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	template := WithDatafileURLTemplate(em.URLs().Datafile)
	start := time.Now()
	c, err := Open(t.Context(), WithSDKKey("nope"), template, WithReadyTimeout(30*time.Millisecond))
	require.Nil(t, c)
	require.ErrorIs(t, err, ErrNotReady)
	require.ErrorIs(t, err, datafile.ErrForbidden, "it says why")
	require.Less(t, time.Since(start), 5*time.Second)

	c, err = New(WithSDKKey("nope"), template)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.WaitReady(ctx), context.Canceled)
	waited := make(chan error, 1)
	go func() { waited <- c.WaitReady(context.Background()) }()
	require.NoError(t, c.Close(t.Context()))
	require.ErrorIs(t, <-waited, ErrClosed)
	c.Start()
	require.Zero(t, em.Requests(emulator.RouteDatafile)-1, "a closed client starts nothing")

	c, err = New(WithSDKKey("k"), template, WithReadyTimeout(0))
	require.NoError(t, err)
	require.ErrorIs(t, c.WaitReady(t.Context()), ErrNotReady)
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, DefaultReadyTimeout, func() time.Duration { s := defaultSettings(); WithReadyTimeout(-1)(&s); return s.readyTimeout }())
}

// A source of one's own: here a watched file. Source: pages.md I-9.
func TestOwnSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.json")
	require.NoError(t, os.WriteFile(path, revision(t, "1"), 0o600))
	source, err := datafile.NewFile(datafile.FileConfig{Path: path})
	require.NoError(t, err)
	n := NewNotifications()
	updates := make(chan ConfigUpdateNotification, 10)
	n.OnConfigUpdate(func(u ConfigUpdateNotification) { updates <- u })
	c, err := Open(t.Context(), WithSource(source), WithNotifications(n), WithSDKKey("ignored"))
	require.NoError(t, err)
	require.Equal(t, "1", c.OptimizelyConfig().Revision)
	require.Equal(t, "1", (<-updates).NewRevision) // Open need not have waited for it
	require.NoError(t, os.WriteFile(path+".new", revision(t, "2"), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	require.Equal(t, "2", (<-updates).NewRevision)
	require.NoError(t, c.Close(t.Context()))
	quiet, err := New(WithSource(struct{ ConfigSource }{source})) // one that doesn't tell how it is doing
	require.NoError(t, err)
	_, ok := quiet.DatafileStatus()
	require.False(t, ok)
	require.NoError(t, quiet.Close(t.Context()))

	// A source that somebody else runs is only listened to.
	shared, err := datafile.NewStatic(revision(t, "1"), datafile.Options{})
	require.NoError(t, err)
	errs := &errorLog{}
	for range 2 {
		c, err := Open(t.Context(), WithSource(running{shared}), WithErrorHandler(errs.handle))
		require.NoError(t, err)
		require.NoError(t, c.Close(t.Context()))
	}
	require.Empty(t, errs.all())
}

// running is a source that somebody else runs.
type running struct{ *datafile.Static }

func (running) Run(context.Context) error { return fmt.Errorf("run: %w", datafile.ErrRunning) }

// The archive, the cache of the last datafile, the size limit.
func TestDatafileOptions(t *testing.T) {
	em := emulator.Start(t, emulator.Options{SDKKey: "KEY", Datafile: revision(t, "1")})
	dir := t.TempDir()
	archive, err := datafile.OpenArchive(filepath.Join(dir, "archive"))
	require.NoError(t, err)
	defer archive.Close()
	options := []Option{
		WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithArchive(archive),
		WithDatafileCache(filepath.Join(dir, "cache")), WithDatafileTimeout(time.Second),
	}
	c, err := Open(t.Context(), options...)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	require.Len(t, archive.Entries(), 1)
	em.Script("/datafiles/", 503, 503, 503, 503, 503, 503, 503, 503)
	c, err = Open(t.Context(), options...)
	require.NoError(t, err, "the cached one")
	require.NoError(t, c.Close(t.Context()))
	em.ClearFaults()
	_, err = Open(t.Context(), WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithDatafileLimit(10), WithReadyTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, datafile.ErrTooLarge)
}
