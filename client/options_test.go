package client

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/cmab"
	"sortition/internal/emulator"
)

// withBandit is the fixture of events.json, whose flag "reco" asks for predictions, and
// an emulator that predicts.
func withBandit(t *testing.T) (*emulator.Server, map[string]any) {
	t.Helper()
	data, err := os.ReadFile("../decision/testdata/events.json")
	require.NoError(t, err)
	var datafile map[string]any
	require.NoError(t, json.Unmarshal(data, &datafile))
	em := emulator.Start(t, emulator.Options{ODPKey: "pk"})
	require.NoError(t, em.SetPrediction("30002", "", "50012"))
	return em, datafile
}

// A detour sends requests for hosts that nobody has to an emulator.
type detour struct {
	to   *url.URL
	pool *http.Transport

	mu    sync.Mutex
	hosts map[string]bool
}

// RoundTrip asks the emulator.
func (d *detour) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.hosts[r.URL.Host] = true
	d.mu.Unlock()
	r = r.Clone(r.Context())
	r.URL.Host, r.Host = d.to.Host, d.to.Host
	return d.pool.RoundTrip(r)
}

// Every request that a client makes goes through the transport it is given.
func TestWithTransport(t *testing.T) {
	em, datafile := withBandit(t)
	datafile["integrations"] = []any{map[string]any{"key": "odp", "host": "http://odp.invalid", "publicKey": "pk"}}
	require.NoError(t, em.SeedDatafile("KEY", text(t, datafile)))
	to, err := url.Parse(em.URL())
	require.NoError(t, err)
	d := &detour{to: to, pool: &http.Transport{}, hosts: map[string]bool{}}
	defer d.pool.CloseIdleConnections()
	c, err := Open(t.Context(), WithTransport(d), WithSDKKey("KEY"), WithDatafileURLTemplate("http://datafiles.invalid/datafiles/{sdk_key}.json"),
		WithEventEndpoint("http://events.invalid/v1/events"), WithCMABPredictionEndpoint("http://predictions.invalid/predict/{}"))
	require.NoError(t, err)
	defer c.Close(context.Background())
	u := c.NewUser("u", nil)
	require.Equal(t, "reco_b", u.Decide(t.Context(), "reco").VariationKey)
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, []string{"datafiles.invalid", "events.invalid", "odp.invalid", "predictions.invalid"}, slices.Sorted(maps.Keys(d.hosts)))
	require.Len(t, em.Received(), 1)
	require.Len(t, em.Attempts("/v3/graphql"), 1)
	require.Len(t, em.Attempts("/v3/events"), 1)
}

// The configuration of predictions counts in all that it says: here, how often a
// request is repeated.
func TestWithCMABConfig(t *testing.T) {
	em, datafile := withBandit(t)
	for _, retries := range []int{0, 3} {
		config := cmab.DefaultConfig()
		config.Endpoint, config.MaxRetries, config.InitialBackoff = em.URLs().Predict, retries, time.Millisecond
		c, _ := newClient(t, datafile, WithCMABConfig(config))
		em.Script("/predict/", slices.Repeat([]int{503}, retries+1)...)
		before := len(em.Attempts("/predict/"))
		require.ErrorIs(t, c.NewUser("u", nil).Decide(t.Context(), "reco").Err, ErrPrediction)
		require.Len(t, em.Attempts("/predict/"), before+1+retries)
		require.Equal(t, "reco_b", c.NewUser("u", nil).Decide(t.Context(), "reco").VariationKey)
	}
}

// A predictionCache is one of a program's own.
type predictionCache struct {
	mu      sync.Mutex
	entries map[cmab.Key]cmab.Entry
}

func (c *predictionCache) Lookup(_ context.Context, k cmab.Key) (cmab.Entry, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	return e, ok, nil
}

func (c *predictionCache) Save(_ context.Context, k cmab.Key, e cmab.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[k] = e
	return nil
}

func (c *predictionCache) Remove(_ context.Context, k cmab.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, k)
	return nil
}

func (c *predictionCache) Reset(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	return nil
}

// Predictions are kept in, and come from, a cache of one's own, which clients may share;
// the size is then nobody's concern.
func TestWithCMABCache(t *testing.T) {
	em, datafile := withBandit(t)
	cache := &predictionCache{entries: map[cmab.Key]cmab.Entry{}}
	options := []Option{WithCMABPredictionEndpoint(em.URLs().Predict), WithCMABCache(cache), WithCMABCacheSize(0)}
	for range 2 {
		c, _ := newClient(t, datafile, options...)
		require.Equal(t, "reco_b", c.NewUser("u", nil).Decide(t.Context(), "reco").VariationKey)
		require.Len(t, em.Attempts("/predict/"), 1)
	}
	key := cmab.Key{UserID: "u", RuleID: "30002"}
	require.Len(t, cache.entries, 1)
	entry := cache.entries[key]
	require.Equal(t, "50012", entry.VariationID)

	entry.VariationID = "50011"
	require.NoError(t, cache.Save(t.Context(), key, entry))
	c, _ := newClient(t, datafile, options...)
	require.Equal(t, "reco_a", c.NewUser("u", nil).Decide(t.Context(), "reco").VariationKey)
	require.Equal(t, "reco_b", c.NewUser("u", nil).Decide(t.Context(), "reco", IgnoreCMABCache).VariationKey)
	require.Len(t, em.Attempts("/predict/"), 2)
}
