package datafile

import (
	"bytes"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func feedFor(t *testing.T, o Options) *feed {
	t.Helper()
	f, err := newFeed(o)
	require.NoError(t, err)
	return f
}

func (f *feed) must(t *testing.T, text []byte) bool {
	t.Helper()
	is, err := f.install(text, OriginGiven, time.Now(), false)
	require.NoError(t, err)
	return is
}

func TestListeners(t *testing.T) { // CF-19
	var log bytes.Buffer
	var first, second, third journal
	f := feedFor(t, Options{OnUpdate: first.note, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	assert.True(t, f.must(t, text("1", "")))
	f.Listen(func(Update) { panic("a listener's own affair") })
	stop := f.Listen(second.note)
	var stopThird func()
	stopThird = f.Listen(func(u Update) {
		third.note(u)
		assert.Equal(t, u.New, f.Current(), "in force before it is announced")
		assert.Equal(t, u.NewRevision(), f.Status().Revision)
		stopThird() // from inside
		f.Listen(func(Update) {})
	})
	assert.True(t, f.must(t, text("2", "")))
	stop()
	stop()
	assert.True(t, f.must(t, text("3", "")))
	assert.Equal(t, []string{"→1", "1→2", "2→3"}, first.revisions())
	assert.Equal(t, []string{"1→2"}, second.revisions())
	assert.Equal(t, []string{"1→2"}, third.revisions())
	assert.Contains(t, log.String(), "listener panicked")
	u := first.updates[1]
	assert.Equal(t, OriginGiven, u.Origin)
	assert.Equal(t, u.At, first.updates[1].At)
	assert.Equal(t, first.updates[0].New, u.Old)
}

func TestSameRevisionIsLoggedNotInstalled(t *testing.T) { // CF-11, DF-9
	var log bytes.Buffer
	f := feedFor(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	f.must(t, text("1", "a"))
	before := f.Current()
	assert.False(t, f.must(t, text("1", "a")))
	assert.NotContains(t, log.String(), "ignored")
	assert.False(t, f.must(t, text("1", "b")))
	assert.Same(t, before, f.Current())
	assert.Contains(t, log.String(), "its revision did not")
	assert.True(t, f.must(t, text("01", "b")), "revisions are texts")
}

// Readers see whole projects, one after the other, whoever installs.
func TestConcurrentUse(t *testing.T) {
	f := feedFor(t, Options{})
	var seen journal
	f.Listen(seen.note)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 50 {
				_, err := f.install(text(strconv.Itoa(w)+"."+strconv.Itoa(i), ""), OriginGiven, time.Now(), false)
				assert.NoError(t, err)
				if p := f.Current(); assert.NotNil(t, p) {
					assert.NotEmpty(t, p.Revision())
				}
				f.Status()
				f.Listen(func(Update) {})()
			}
		})
	}
	all.Wait()
	require.Len(t, seen.updates, 200)
	for i, u := range seen.updates[1:] {
		assert.Same(t, seen.updates[i].New, u.Old)
	}
	assert.Same(t, seen.updates[199].New, f.Current())
}

func TestStatusAge(t *testing.T) {
	assert.Zero(t, Status{}.Age(time.Now()))
	now := time.Now()
	assert.Equal(t, time.Hour, Status{ReceivedAt: now.Add(-time.Hour)}.Age(now))
}

func BenchmarkCurrent(b *testing.B) {
	s, err := NewStatic(text("1", ""), Options{})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if s.Current() == nil {
			b.Fatal("no project")
		}
	}
}
