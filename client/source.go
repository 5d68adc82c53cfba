package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sortition/decision"
	"sortition/decision/datafile"
)

// A ConfigSource publishes the compiled datafile of the moment: the SDKs' config
// manager. The sources of package datafile are ConfigSources. Every method but Run
// returns at once and is safe for concurrent use. Source: pages.md I-9.
type ConfigSource interface {
	// Current is the project in force, nil before the first. Decisions ask for it.
	Current() *decision.Project
	// Ready is closed when the first project is there.
	Ready() <-chan struct{}
	// Listen has f called after each project that comes into force, until stop is
	// called. The client's listeners hear of it this way.
	Listen(f func(datafile.Update)) (stop func())
	// Run keeps the source up to date until ctx is done, and returns nil then; or
	// [datafile.ErrRunning] when somebody else runs it.
	Run(ctx context.Context) error
}

// openSource chooses the source. Source: config.md section 1.
func (c *Client) openSource() error {
	s := &c.settings
	if s.source != nil {
		c.source = s.source
		c.stopListening = s.source.Listen(c.configUpdated)
		return nil
	}
	if len(s.datafile) == 0 && (!s.isPolled || s.poll.SDKKey == "" && s.poll.URL == "") {
		if s.poll.Authenticated {
			return fmt.Errorf("%w: an access token needs an SDK key", ErrNoSource)
		}
		return ErrNoSource
	}
	s.poll.Datafile = s.datafile
	s.poll.OnUpdate = c.configUpdated
	s.poll.Logger = slog.New(reportingHandler{c.log.Handler(), c.handle})
	if s.transport != nil {
		s.poll.Client = &http.Client{Transport: s.transport}
	}
	source, err := datafile.Open(datafile.Config{Poll: s.poll})
	if err != nil {
		return err
	}
	c.source = source
	s.datafile, s.poll.Datafile = nil, nil // the source has its copy
	return nil
}

func (c *Client) configUpdated(u datafile.Update) {
	send(c, ConfigUpdateType, func() ConfigUpdateNotification {
		return ConfigUpdateNotification{OldRevision: u.OldRevision(), NewRevision: u.NewRevision()}
	})
}

// A reportingHandler also gives the errors that are logged to the error handler:
// those of parts that report nowhere else.
type reportingHandler struct {
	slog.Handler
	report func(error)
}

// Enabled is true for errors also when nobody logs them.
func (h reportingHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || h.Handler.Enabled(ctx, level)
}

// Handle logs a record, and reports it if it is an error that names one.
func (h reportingHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		r.Attrs(func(a slog.Attr) bool {
			err, ok := a.Value.Any().(error)
			if ok {
				h.report(err)
			}
			return !ok
		})
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the reporting.
func (h reportingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reportingHandler{h.Handler.WithAttrs(attrs), h.report}
}

// WithGroup keeps the reporting.
func (h reportingHandler) WithGroup(name string) slog.Handler {
	return reportingHandler{h.Handler.WithGroup(name), h.report}
}

// WaitReady waits until there is a datafile, at most for the time of
// [WithReadyTimeout]. The client must have been started, unless it got a datafile.
// The error wraps [ErrNotReady], [ErrClosed] or what ended ctx.
// Source: config.md CF-17.
func (c *Client) WaitReady(ctx context.Context) error {
	if c.IsReady() {
		return nil
	}
	timer := time.NewTimer(c.settings.readyTimeout)
	defer timer.Stop()
	var cause error
	select {
	case <-c.source.Ready():
		return nil
	case <-timer.C:
		cause = fmt.Errorf("none came within %v", c.settings.readyTimeout)
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-c.life.closing:
		cause = ErrClosed
	}
	if s, ok := c.DatafileStatus(); ok && s.Err != nil {
		return fmt.Errorf("wait for datafile: %w: %w: %w", ErrNotReady, cause, s.Err)
	}
	return fmt.Errorf("wait for datafile: %w: %w", ErrNotReady, cause)
}

// DatafileStatus tells how the source of datafiles is doing: when it last looked and
// what came of it, and where the datafile in force is from, and since when. False if a
// source of one's own doesn't say. Source: config.md CF-P3.
func (c *Client) DatafileStatus() (status datafile.Status, ok bool) {
	s, ok := c.source.(interface{ Status() datafile.Status })
	if !ok {
		return status, false
	}
	return s.Status(), true
}

// IsReady tells whether there is a datafile.
func (c *Client) IsReady() bool { return c.source.Current() != nil }

// OptimizelyConfig is the structured view of the datafile in force, nil while there
// is none. It is the same object until another datafile comes, and must not be
// changed. Source: legacy-api.md section 6, config.md CF-22.
func (c *Client) OptimizelyConfig() *decision.Config {
	p := c.source.Current()
	if p == nil {
		return nil
	}
	return p.Config()
}

// Datafile is a copy of the text of the datafile in force, nil while there is none.
// Source: config.md CF-22.
func (c *Client) Datafile() []byte {
	p := c.source.Current()
	if p == nil {
		return nil
	}
	return append([]byte(nil), p.Datafile()...)
}
