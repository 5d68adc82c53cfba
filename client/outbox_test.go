package client

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
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
