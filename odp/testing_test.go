package odp

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/internal/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "W4WzcEs-ABgXorzY7h1LCQ"

// newODP is an emulator whose ODP has a key.
func newODP(t testing.TB) *emulator.Server {
	t.Helper()
	return emulator.Start(t, emulator.Options{ODPKey: testKey})
}

func integrationOf(em *emulator.Server, segments ...string) Integration {
	return Integration{Host: em.URLs().ODP, PublicKey: testKey, Segments: segments}
}

// newSegments makes a Segments that is ready.
func newSegments(t testing.TB, i Integration, change func(*Config)) *Segments {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	s, err := NewSegments(cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	s.Update(context.Background(), i)
	return s
}

// queries are the requests for segments so far.
func queries(em *emulator.Server) []emulator.Attempt {
	return em.Attempts(string(emulator.RouteSegments))
}

// deadline is the context of a test that must come to its end.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A fake is a fetcher in memory.
type fake struct {
	mu      sync.Mutex
	users   map[string][]string
	err     error
	delay   time.Duration
	asked   []Query
	current int
	most    int
	hold    chan struct{} // if not nil, answers wait until it is closed
}

func (f *fake) FetchSegments(ctx context.Context, q Query) ([]string, error) {
	f.mu.Lock()
	f.asked = append(f.asked, q)
	f.current++
	f.most = max(f.most, f.current)
	delay, hold := f.delay, f.hold
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.current--
	}()
	if delay > 0 && sleep(ctx, delay) != nil {
		return nil, context.Cause(ctx)
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	return slices.Clone(f.users[q.Value]), nil
}

func (f *fake) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// newFaked makes a Segments over a fake, without HTTP. To be used in bubbles, it isn't
// closed by the test's end.
func newFaked(t testing.TB, f *fake, change func(*Config)) *Segments {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Fetcher = f
	if change != nil {
		change(&cfg)
	}
	s, err := NewSegments(cfg)
	require.NoError(t, err)
	s.Update(t.Context(), Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"vip", "b2"}})
	return s
}

// fetch fetches the segments of a user who has no failure.
func fetch(t testing.TB, s *Segments, user string, o Options) Result {
	t.Helper()
	r := s.Fetch(t.Context(), User{Value: user}, o)
	require.NoError(t, r.Err)
	return r
}
