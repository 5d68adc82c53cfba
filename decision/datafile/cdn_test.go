package datafile

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a valid datafile without flags. note makes content that differs.
func text(revision, note string) []byte {
	t, err := json.Marshal(map[string]any{
		"version": "4", "projectId": "880022", "accountId": "1", "revision": revision, "note": note, "sdkKey": "KeyOfFile",
		"groups": []any{}, "experiments": []any{}, "events": []any{}, "audiences": []any{}, "attributes": []any{},
		"featureFlags": []any{}, "rollouts": []any{},
	})
	if err != nil {
		panic(err)
	}
	return t
}

// A step is one answer of the scripted CDN.
type step struct {
	status int // default 200
	body   []byte
	header map[string]string
	delay  time.Duration
	isCut  bool // the connection is closed instead
}

// A cdn answers step by step and repeats the last one. It is an http.Handler, for
// real HTTP, and an http.RoundTripper, for bubbles of synctest.
type cdn struct {
	mu       sync.Mutex
	steps    []step
	requests []*http.Request
	times    []time.Time
}

func script(steps ...step) *cdn { return &cdn{steps: steps} }

// then replaces what is left of the script.
func (c *cdn) then(steps ...step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = steps
}

func (c *cdn) next(r *http.Request) step {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	c.times = append(c.times, time.Now())
	s := c.steps[0]
	if len(c.steps) > 1 {
		c.steps = c.steps[1:]
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s
}

func (c *cdn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.requests)
}

func (c *cdn) request(i int) *http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests[i]
}

// gaps are the times between requests, rounded.
func (c *cdn) gaps(unit time.Duration) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gaps := []time.Duration{}
	for i := 1; i < len(c.times); i++ {
		gaps = append(gaps, c.times[i].Sub(c.times[i-1]).Round(unit))
	}
	return gaps
}

func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := c.next(r)
	if s.delay > 0 && !sleep(r.Context(), s.delay) {
		return
	}
	if s.isCut {
		panic(http.ErrAbortHandler)
	}
	for k, v := range s.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body)
}

func (c *cdn) RoundTrip(r *http.Request) (*http.Response, error) {
	s := c.next(r)
	if s.delay > 0 && !sleep(r.Context(), s.delay) {
		return nil, r.Context().Err()
	}
	if s.isCut {
		return nil, fmt.Errorf("read tcp: connection reset by peer")
	}
	w := httptest.NewRecorder()
	for k, v := range s.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body)
	response := w.Result()
	response.Request = r
	return response, nil
}

// serve puts the CDN on the loopback interface.
func serve(t *testing.T, c *cdn) (template string) {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return server.URL + "/datafiles/{sdk_key}.json"
}

// run runs the source until the test or stop ends it, and waits for that.
func run(t *testing.T, s Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // Run's result, if nobody waits for it any more
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// eventually waits for something to become true, without a fixed pause.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// A journal notes the updates a source announces.
type journal struct {
	mu      sync.Mutex
	updates []Update
}

func (j *journal) note(u Update) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.updates = append(j.updates, u)
}

// revisions lists old→new of each update.
func (j *journal) revisions() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := []string{}
	for _, u := range j.updates {
		list = append(list, u.OldRevision()+"→"+u.NewRevision())
	}
	return list
}
