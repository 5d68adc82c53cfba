package client

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child()) //nolint:forbidigo // a process of its own, started by the kill test
	}
	goleak.VerifyTestMain(m)
}

// worked is the fixture of decide.md section 12, with an event.
func worked(tb testing.TB) map[string]any {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("..", "decision", "testdata", "worked.json"))
	require.NoError(tb, err)
	var datafile map[string]any
	require.NoError(tb, json.Unmarshal(text, &datafile))
	datafile["events"] = []any{map[string]any{"id": "951", "key": "bought", "experimentIds": []any{"611"}}}
	return datafile
}

func text(tb testing.TB, datafile any) []byte {
	tb.Helper()
	out, err := json.Marshal(datafile)
	require.NoError(tb, err)
	return out
}

// A recorder is an event processor that keeps what it is given.
type recorder struct {
	mu     sync.Mutex
	events []UserEvent
	calls  int
	closed int
	err    error
}

func (r *recorder) Process(_ context.Context, events []UserEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.calls++
	for _, e := range events {
		e.Body = append([]byte(nil), e.Body...)
		r.events = append(r.events, e)
	}
	return nil
}

func (r *recorder) Close(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
	return nil
}

// take returns the events since the last call as visitors, without uuids and times.
func (r *recorder) take(tb testing.TB) []any {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []any{}
	for _, e := range r.events {
		v := tree(tb, json.RawMessage(e.Body))
		stripVisitor(v)
		out = append(out, v)
	}
	r.events = nil
	return out
}

// tree is any value as JSON has it.
func tree(tb testing.TB, v any) any {
	tb.Helper()
	data, err := json.Marshal(v)
	require.NoError(tb, err)
	var out any
	require.NoError(tb, json.Unmarshal(data, &out))
	return out
}

// stripVisitor takes out what differs from run to run: uuids and times, and the
// order of attributes, which carries no meaning.
func stripVisitor(v any) {
	attributes := v.(map[string]any)["attributes"].([]any)
	sort.SliceStable(attributes, func(i, k int) bool { return fmt.Sprint(attributes[i]) < fmt.Sprint(attributes[k]) })
	for _, s := range v.(map[string]any)["snapshots"].([]any) {
		for _, e := range s.(map[string]any)["events"].([]any) {
			delete(e.(map[string]any), "uuid")
			delete(e.(map[string]any), "timestamp")
		}
	}
}

// errorLog keeps errors that went to the error handler.
type errorLog struct {
	mu   sync.Mutex
	errs []error
}

func (l *errorLog) handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *errorLog) all() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]error(nil), l.errs...)
}

// newClient makes a client of the fixture whose events go to a recorder.
func newClient(tb testing.TB, datafile any, options ...Option) (*Client, *recorder) {
	tb.Helper()
	r := &recorder{}
	c, err := New(append([]Option{WithDatafile(text(tb, datafile)), WithEventProcessor(r)}, options...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = c.Close(context.Background()) }) // again, if the test has
	return c, r
}

// eventually waits until something holds.
func eventually(tb testing.TB, holds func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, holds, 10*time.Second, 2*time.Millisecond, what)
}

// A logBook keeps what was logged, as text.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func keysOf(d Decisions) string { return fmt.Sprint(d.Keys()) }
