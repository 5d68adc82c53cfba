package datafile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sortition/decision"
)

// A Source publishes the compiled datafile of the moment. Every method but Run
// returns at once and is safe for concurrent use.
type Source interface {
	// Current is the project in force, nil before the first. It is one atomic
	// load; a decision or a batch loads it once. Source: config.md CF-20, CF-P4.
	Current() *decision.Project
	// Ready is closed when the first project is there.
	Ready() <-chan struct{}
	// Listen has f called after each project that comes into force from now on,
	// until stop is called. Calls come one at a time, in order, on the source's
	// goroutine: f may take its time, but the source waits for it. A panic of f is
	// logged and swallowed. Source: config.md CF-19.
	Listen(f func(Update)) (stop func())
	// Status tells how the source is doing.
	Status() Status
	// Run keeps the source up to date until ctx is done; it then returns nil, when
	// everything it started has ended. It can be called once.
	Run(ctx context.Context) error
}

var (
	_ Source = (*Static)(nil)
	_ Source = (*File)(nil)
	_ Source = (*Poller)(nil)
)

// An Update says that a project has come into force.
type Update struct {
	Old, New *decision.Project // Old is nil for the first
	Origin   Origin            // of New
	At       time.Time         // when it came into force
}

// OldRevision is the revision replaced, "" for the first project.
func (u Update) OldRevision() string {
	if u.Old == nil {
		return ""
	}
	return u.Old.Revision()
}

// NewRevision is the revision in force now.
func (u Update) NewRevision() string { return u.New.Revision() }

// An Origin says where a datafile came from.
type Origin string

// The origins. The zero value stands for no datafile.
const (
	OriginGiven Origin = "given" // handed to the constructor
	OriginFile  Origin = "file"
	OriginCDN   Origin = "cdn"
	OriginCache Origin = "cache" // the poller's cache file
)

// Status is what a source knows of itself at one moment. Times are zero for what
// has not happened.
type Status struct {
	Origin      Origin    // of the project in force
	Revision    string    // of the project in force
	Digest      string    // of the project in force, as [decision.Project.Digest]
	InstalledAt time.Time // when it came into force here
	ReceivedAt  time.Time // when its text was got from its origin; from the cache: when the CDN gave it

	LastAttempt time.Time // when the last look at the origin ended
	LastSuccess time.Time // when the last one that found a usable datafile, or no change, ended
	HTTPStatus  int       // of the last answer; 0 if there was none
	Failures    int       // attempts failed since the last success
	Err         error     // why the last attempt failed, before the first why the datafile given did; nil if it didn't
	ArchiveErr  error     // why the project in force isn't in the archive; nil if it is
}

// Age is how long ago the text in force was got from its origin, 0 without one.
// A large age is harmless while LastSuccess is recent: nothing has changed.
func (s Status) Age(now time.Time) time.Duration {
	if s.ReceivedAt.IsZero() {
		return 0
	}
	return now.Sub(s.ReceivedAt)
}

// DefaultWait is how long [WaitReady] waits for a negative timeout.
const DefaultWait = 10 * time.Second

// WaitReady waits until s has a project, at most timeout: 0 only looks, a negative
// one stands for [DefaultWait]. Somebody else must be running s. The error wraps
// [ErrNotReady], what s failed with last if it did, and the context's error if
// that ended the wait. Source: config.md CF-17, CF-P4.
func WaitReady(ctx context.Context, s Source, timeout time.Duration) error {
	if timeout < 0 {
		timeout = DefaultWait
	}
	if s.Current() != nil {
		return nil
	}
	var cause error
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-s.Ready():
			return nil
		case <-ctx.Done():
			cause = context.Cause(ctx)
		case <-timer.C:
		}
	}
	if last := s.Status().Err; last != nil {
		cause = errors.Join(cause, last)
	}
	if cause != nil {
		return fmt.Errorf("wait for the first datafile: %w: %w", ErrNotReady, cause)
	}
	return fmt.Errorf("wait for the first datafile: %w", ErrNotReady)
}
