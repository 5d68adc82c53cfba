package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// deliveries is the far end of a rig whose processes deliver their events too: an
// emulator that fails half of its answers, and a note of all that took effect there.
type deliveries struct {
	server *emulator.Server

	mu       sync.Mutex        // guards the fields below
	arrived  map[string]string // the event's bytes by uuid
	repeats  int
	differed int // arrived again with other bytes
}

// deliver lets the processes that start from now on deliver their events.
func (r *killRig) deliver(t *testing.T) {
	t.Helper()
	d := &deliveries{arrived: map[string]string{}}
	d.server = emulator.Start(t, emulator.Options{MaxAttempts: 10, Recorded: d.recorded})
	const seed = 20261126
	_, err := d.server.AddFault(emulator.Fault{Route: string(emulator.RouteEvents), Fraction: 0.3, Seed: seed, Status: 503})
	require.NoError(t, err)
	// Of the others 2 in 7, so half in all: they took effect, but who knows?
	_, err = d.server.AddFault(emulator.Fault{Route: string(emulator.RouteEvents), Fraction: 2. / 7, Seed: seed, Cut: emulator.CutAfter})
	require.NoError(t, err)
	r.cloud = d
	r.configure(t, fmt.Sprintf(`
handlers: [assign, deliver-events]
events: {batch_size: 1000}
deliver: {events: {endpoint: %q, concurrency: 8, max_batch_records: 10}}
`, d.server.URLs().Events))
}

// recorded is told of every request.
func (d *deliveries) recorded(a *emulator.Attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !a.Accepted {
		return
	}
	for _, v := range a.Visitors {
		before, isRepeat := d.arrived[v.UUID]
		switch {
		case !isRepeat:
			d.arrived[v.UUID] = string(v.Raw)
		case before != string(v.Raw):
			d.differed++
		default:
			d.repeats++
		}
	}
}

// awaitAll waits until all bodies of the topic are delivered and committed.
func (d *deliveries) awaitAll(t *testing.T, r *killRig, c *child) {
	t.Helper()
	reader := kafkatest.NewReader(r.addrs)
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	ends, err := reader.Ends(ctx, r.topics.Events)
	require.NoError(t, err)
	total := int64(0)
	for _, end := range ends {
		total += end
	}
	require.Eventually(t, func() bool {
		return r.committedBy(t, r.group+"-"+pipeline.DeliverEvents, r.topics.Events) == total
	}, 2*patience, 20*time.Millisecond, "%s", c.output)
}

// requireAll compares what arrived with the events of the topic, by uuid.
func (d *deliveries) requireAll(t *testing.T, events map[string]string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for uuid, event := range events {
		require.Equal(t, event, d.arrived[uuid], "an event of the topic has not arrived, or not as it is there")
	}
	require.Len(t, d.arrived, len(events), "events arrived that are not in the topic")
	require.Zero(t, d.differed, "repeats have equal bytes")
	require.Positive(t, d.repeats, "answers were lost, so there must be repeats")
}

func (d *deliveries) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("%d events arrived, and %d repeats", len(d.arrived), d.repeats)
}
