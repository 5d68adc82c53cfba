package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/odp"
	"sortition/sinks"
)

// leave puts a batch into the outbox of a folder, where it waits for delivery.
func leave(t *testing.T, dir, endpoint string) {
	t.Helper()
	o, err := sinks.OpenOutbox(dir, sinks.OutboxOptions{})
	require.NoError(t, err)
	_, err = o.Append(t.Context(), sinks.Batch{Endpoint: endpoint, ID: "left", Visitors: 1, Body: []byte(`{"left":"since the last time, with some text to spoil"}`)})
	require.NoError(t, err)
	require.NoError(t, o.Close())
}

// spoil makes the first record of an outbox unreadable that is open already.
func spoil(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xee}, 90)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A delivery that fails for good is told at once, also when events are buffered. Events
// still come to the disk, and closing doesn't wait for what nobody delivers.
func TestOutboxDeliveryFails(t *testing.T) {
	for name, row := range map[string]struct {
		options OutboxOptions
		folder  string // of the outbox that goes bad, below that of events
		left    string // endpoint
	}{
		"buffered": {OutboxOptions{IsBuffered: true}, "", "http://127.0.0.1:1/v1/events"},
		"at once":  {OutboxOptions{}, "", "http://127.0.0.1:1/v1/events"},
		"odp":      {OutboxOptions{}, "odp", "http://127.0.0.1:1#pk"},
	} {
		t.Run(name, func(t *testing.T) {
			em := emulator.Start(t, emulator.Options{})
			dir := t.TempDir()
			leave(t, filepath.Join(dir, row.folder), row.left)
			errs := &errorLog{}
			c, err := New(WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events), WithOutbox(dir, row.options), WithErrorHandler(errs.handle),
				WithCloseTimeout(time.Hour))
			require.NoError(t, err)
			appended := func() uint64 {
				account, _ := c.OutboxAccount()
				return account.Appended.Visitors
			}
			had := appended()
			spoil(t, filepath.Join(dir, row.folder))
			c.Start()
			eventually(t, func() bool { return len(errs.all()) == 1 }, "the error handler hears of it")
			require.ErrorIs(t, errs.all()[0], sinks.ErrDamaged)

			c.NewUser("u", nil).Decide(t.Context(), "main")
			c.Flush()
			eventually(t, func() bool { return appended() == had+1 }, "the event is on disk")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			require.NoError(t, c.Close(ctx), "what is on disk is not lost")
			require.NoError(t, ctx.Err(), "it waited for nobody")
			require.Len(t, errs.all(), 1)
		})
	}
}

// A client that can't be made has delivered nothing and leaves nothing open, its outbox
// included.
func TestNewThatFailsStartsNothing(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true}) // so that a delivery would be seen and not end
	require.NoError(t, err)
	dir := t.TempDir()
	leave(t, dir, em.URLs().Events)
	other, err := sinks.OpenOutbox(filepath.Join(dir, "odp"), sinks.OutboxOptions{})
	require.NoError(t, err)
	own := &recorder{}
	options := []Option{WithDatafile(text(t, worked(t))), WithOutbox(dir, OutboxOptions{}), WithCloseTimeout(5 * time.Second)}
	for _, more := range [][]Option{nil, {WithEventProcessor(own)}} {
		_, err = New(append(options, more...)...)
		require.ErrorIs(t, err, sinks.ErrLocked)
	}
	require.Empty(t, em.Attempts("/v1/events"))
	require.Zero(t, own.closed, "it is the caller's")
	require.NoError(t, other.Close())

	o, err := sinks.OpenOutbox(dir, sinks.OutboxOptions{})
	require.NoError(t, err, "the folder is free")
	require.EqualValues(t, 1, o.Account().Pending.Batches)
	require.NoError(t, o.Close())
}

// refusing refuses all events for good: it is a dispatcher and an ODP event API.
type refusing struct{}

func (refusing) DispatchEvent(context.Context, LogEvent) error {
	return &sinks.StatusError{Status: 400}
}

func (refusing) SendEvents(context.Context, odp.EventBatch) error {
	return &odp.Error{Class: odp.HTTPError, Status: 400}
}

// However many events are refused for good, the client goes on taking others; it tells of
// each of the refused, and those that are kept can be read and cleared.
func TestRefusedEventsMakeWay(t *testing.T) {
	dir, errs, log := t.TempDir(), &errorLog{}, &logBook{}
	options := []Option{
		WithDatafile(text(t, integrated(t))), WithOutbox(dir, OutboxOptions{MaxBytes: 64 << 10}), WithEventDispatcher(refusing{}),
		WithODPEventAPI(refusing{}), WithODPEventFlushInterval(0), WithErrorHandler(errs.handle), WithLogger(log.logger()), WithCloseTimeout(30 * time.Second),
	}
	c, err := New(options...)
	require.NoError(t, err)
	c.Start()
	long := strings.Repeat("x", 3000)
	u := c.NewUser(long, nil)
	const n = 40 // more than all has room for
	events, ok := c.Outbox()
	require.True(t, ok)
	odps, ok := c.ODPOutbox()
	require.True(t, ok)
	for i := range n {
		require.NoError(t, u.TrackEvent(t.Context(), "bought", nil))
		require.NoError(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a", Identifiers: map[string]string{"email": long}}))
		eventually(t, func() bool {
			return events.Account().Refused.Batches == uint64(i+1) && odps.Account().Refused.Batches == uint64(i+1)
		}, "the refusals")
	}
	ofEvents, ofODP := 0, 0
	for _, err := range errs.all() {
		var event *EventError
		var odpEvent *ODPEventError
		switch {
		case errors.As(err, &event) && event.IsPermanent:
			ofEvents++
		case errors.As(err, &odpEvent) && odpEvent.IsPermanent:
			ofODP++
		}
	}
	require.Equal(t, []int{n, n}, []int{ofEvents, ofODP}, "the error handler hears of each")
	for name, view := range map[string]OutboxView{"events ": events, `"ODP events" `: odps} {
		a := view.Account()
		require.NotZero(t, a.Forgotten.Batches)
		require.NotZero(t, a.Kept.Batches)
		require.EqualValues(t, n, a.Forgotten.Batches+a.Kept.Batches)
		require.LessOrEqual(t, a.RefusedBytes, int64(16<<10))
		kept := uint64(0)
		for batch, err := range view.Refused() {
			require.NoError(t, err)
			require.Equal(t, 400, batch.Parts[0].Status)
			require.Contains(t, string(batch.Parts[0].Body), long)
			kept++
		}
		require.Equal(t, a.Kept.Batches, kept)
		eventually(t, func() bool { return strings.Contains(log.String(), "outbox="+name) }, "the log tells of what made way")
		require.NoError(t, view.ClearRefused())
		require.Zero(t, view.Account().Kept)
		require.Equal(t, a.Refused, view.Account().Refused)
	}
	account, ok := c.OutboxAccount()
	require.True(t, ok)
	require.Equal(t, events.Account(), account)
	require.NoError(t, c.Close(t.Context()))
	require.ErrorIs(t, odps.ClearRefused(), ErrClosed)

	none, _ := newClient(t, integrated(t))
	_, ok = none.Outbox()
	require.False(t, ok)
	_, ok = none.ODPOutbox()
	require.False(t, ok)
	_, ok = none.OutboxAccount()
	require.False(t, ok)
	_, err = New(WithDatafile(text(t, integrated(t))), WithOutbox(t.TempDir(), OutboxOptions{MaxRefusedBytes: 1}))
	require.ErrorContains(t, err, "bound of refused batches")
}

// away can't be reached: it is a dispatcher and an ODP event API.
type away struct{}

func (away) DispatchEvent(context.Context, LogEvent) error    { return errors.New("away") }
func (away) SendEvents(context.Context, odp.EventBatch) error { return odp.ErrNetwork }

// Events that were given up for their age are refused, and the error handler gets them.
func TestEventsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := &errorLog{}
		c, err := New(WithDatafile(text(t, integrated(t))), WithOutbox(t.TempDir(), OutboxOptions{MaxAge: time.Hour}), WithEventDispatcher(away{}),
			WithODPEventAPI(away{}), WithErrorHandler(errs.handle))
		require.NoError(t, err)
		c.Start()
		require.NoError(t, c.NewUser("u", nil).TrackEvent(t.Context(), "bought", nil))
		require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Len(t, errs.all(), 2)
		var event *EventError
		var odpEvent *ODPEventError
		for _, err := range errs.all() {
			require.ErrorIs(t, err, sinks.ErrTooOld)
			_ = errors.As(err, &event) || errors.As(err, &odpEvent)
		}
		require.True(t, event.IsPermanent)
		require.Contains(t, string(event.Event.Params), "bought")
		require.True(t, odpEvent.IsPermanent)
		require.Contains(t, string(odpEvent.Body), "viewed")
		for _, open := range []func() (OutboxView, bool){c.Outbox, c.ODPOutbox} {
			view, _ := open()
			require.EqualValues(t, 1, view.Account().Refused.Batches)
		}
		require.NoError(t, c.Close(t.Context()))
	})
}
