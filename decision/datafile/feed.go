package datafile

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sortition/decision"
)

// A feed is what every source embeds: the project in force, who wants to know,
// and how a new one gets there.
type feed struct {
	options Options
	current atomic.Pointer[decision.Project]
	ready   chan struct{} // never sent on; closed with the first project
	hasRun  atomic.Bool

	// installing admits one installation at a time, its listeners included. Lock it
	// before mu.
	installing sync.Mutex
	unarchived []Update // what is still to be written to the archive, oldest first; guarded by installing

	mu        sync.Mutex // guards status and listeners; nobody is called while it is held
	status    Status
	listeners []*listener
}

type listener struct{ f func(Update) }

func newFeed(o Options) (*feed, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &feed{options: o, ready: make(chan struct{})}, nil
}

// Current is the project in force, nil before the first. It is one atomic load.
func (f *feed) Current() *decision.Project { return f.current.Load() }

// Ready is closed when the first project is there.
func (f *feed) Ready() <-chan struct{} { return f.ready }

// Status tells how the source is doing.
func (f *feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Listen has fn called after each project that comes into force from now on,
// until stop is called; see [Source.Listen].
func (f *feed) Listen(fn func(Update)) (stop func()) {
	l := &listener{fn}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners = append(f.listeners, l)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		// A new slice, since an announcement may be walking the old one.
		f.listeners = slices.DeleteFunc(slices.Clone(f.listeners), func(x *listener) bool { return x == l })
	}
}

func (f *feed) start() error {
	if !f.hasRun.CompareAndSwap(false, true) {
		return fmt.Errorf("run datafile source: %w", ErrRunning)
	}
	return nil
}

// install makes text the project in force, unless it doesn't compile (an error)
// or its revision is in force already. It keeps text. onlyFirst leaves a project
// that is there alone. Source: config.md section 4, CF-11; datafile.md DF-8, DF-9.
func (f *feed) install(text []byte, origin Origin, received time.Time, onlyFirst bool) (isInstalled bool, err error) {
	f.installing.Lock()
	defer f.installing.Unlock()
	old := f.current.Load()
	if onlyFirst && old != nil {
		return false, nil
	}
	if old != nil && bytes.Equal(old.Datafile(), text) {
		f.archive() // what failed before is tried again
		return false, nil
	}
	if len(text) == 0 {
		return false, fmt.Errorf("install datafile: %w", ErrEmpty)
	}
	p, err := f.options.compile(text)
	if err != nil {
		return false, fmt.Errorf("install datafile: %w", err)
	}
	if old != nil && old.Revision() == p.Revision() {
		f.archive()
		f.options.Logger.Warn("datafile changed but its revision did not: ignored", slog.String("revision", p.Revision()),
			slog.String("in_force", old.Digest()), slog.String("ignored", p.Digest()))
		return false, nil
	}
	u := Update{Old: old, New: p, Origin: origin, At: time.Now()}
	if f.options.Archive != nil {
		if len(f.unarchived) == maxUnarchived {
			f.unarchived = f.unarchived[1:]
		}
		f.unarchived = append(f.unarchived, u)
		f.archive() // before any decision is made with it
	}
	listeners := f.swap(u, received)
	f.announce(u, listeners)
	return true, nil
}

// maxUnarchived bounds what waits for an archive that can't be written.
const maxUnarchived = 32

// swap puts the update into force and returns who is to be told. Whoever listens
// later finds the new project in Current.
func (f *feed) swap(u Update, received time.Time) []*listener {
	f.mu.Lock()
	f.current.Store(u.New)
	f.status.Origin, f.status.Revision, f.status.Digest = u.Origin, u.New.Revision(), u.New.Digest()
	f.status.InstalledAt, f.status.ReceivedAt = u.At, received
	listeners := f.listeners
	f.mu.Unlock()
	if u.Old == nil {
		close(f.ready)
	}
	f.options.Logger.Info("datafile installed", slog.String("revision", u.NewRevision()), slog.String("replaced", u.OldRevision()),
		slog.String("origin", string(u.Origin)), slog.String("digest", u.New.Digest()), slog.Int("flags", u.New.NumFlags()))
	return listeners
}

// archive writes what the archive still lacks. The caller holds installing.
func (f *feed) archive() {
	var err error
	for err == nil && len(f.unarchived) > 0 {
		u := f.unarchived[0]
		if err = f.options.Archive.Put(u.New, u.At); err == nil {
			f.unarchived = f.unarchived[1:]
		} else {
			f.options.Logger.Error("datafile not archived", slog.String("digest", u.New.Digest()), slog.Any("error", err))
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.ArchiveErr = err
}

// announce tells everybody who was listening when the update came into force.
func (f *feed) announce(u Update, listeners []*listener) {
	if f.options.OnUpdate != nil {
		f.tell(f.options.OnUpdate, u)
	}
	for _, l := range listeners {
		f.tell(l.f, u)
	}
}

// tell calls one listener, whose panic is its own affair. Source: config.md CF-19.
func (f *feed) tell(fn func(Update), u Update) {
	defer func() {
		if r := recover(); r != nil {
			f.options.Logger.Error("datafile listener panicked", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		}
	}()
	fn(u)
}

// attempted records the outcome of one look at the origin.
func (f *feed) attempted(httpStatus int, err error) {
	now := time.Now()
	f.mu.Lock()
	s := &f.status
	s.LastAttempt, s.HTTPStatus, s.Err = now, httpStatus, err
	wasFailing := s.Failures
	if err == nil {
		s.LastSuccess, s.Failures = now, 0
	} else {
		s.Failures++
	}
	revision := s.Revision
	f.mu.Unlock()
	switch {
	case err != nil:
		f.options.Logger.Error("datafile not updated", slog.String("revision", revision), slog.Int("http_status", httpStatus), slog.Any("error", err))
	case wasFailing > 0:
		f.options.Logger.Info("datafile updates work again", slog.String("revision", revision), slog.Int("failures", wasFailing))
	}
}
