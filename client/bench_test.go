package client

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/internal/sample"
	"sortition/sinks"
)

// discard takes events as a queue does, without keeping them.
type discard struct{}

func (discard) Process(context.Context, []UserEvent) error { return nil }
func (discard) Close(context.Context) error                { return nil }

var attributes = map[string]any{"country": "de", "plan": "pro", "age": 31, "device": "phone"}

// benchmarkClient has 60 flags, as large projects do.
func benchmarkClient(b *testing.B, options ...Option) *Client {
	c, err := New(append([]Option{WithDatafile(sample.Datafile(1, 60))}, options...)...)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close(context.Background())) })
	return c
}

// BenchmarkDecide decides one flag of 60 for a user who is there already.
func BenchmarkDecide(b *testing.B) {
	run := func(b *testing.B, c *Client, options DecideOptions) {
		u := c.NewUser("u-17", attributes)
		key := c.source.Current().FlagKey(7)
		ctx := context.Background()
		b.ReportAllocs()
		for b.Loop() {
			if d := u.Decide(ctx, key, options); d.Err != nil {
				b.Fatal(d.Err)
			}
		}
	}
	b.Run("events=off", func(b *testing.B) { run(b, benchmarkClient(b, WithEventProcessor(discard{})), DisableDecisionEvent) })
	b.Run("events=rendered", func(b *testing.B) { run(b, benchmarkClient(b, WithEventProcessor(discard{})), 0) })
	queued := func() Option {
		return WithEventDispatcher(dispatcherFunc(func(context.Context, LogEvent) error { return nil }))
	}
	b.Run("events=queued", func(b *testing.B) {
		c := benchmarkClient(b, queued(), BlockWhenFull())
		c.Start()
		run(b, c, 0)
	})
	b.Run("events=outbox", func(b *testing.B) {
		c := benchmarkClient(b, queued(), WithOutbox(b.TempDir(), OutboxOptions{}), BlockWhenFull())
		c.Start()
		run(b, c, 0)
	})
	b.Run("events=outbox,interval", func(b *testing.B) {
		c := benchmarkClient(b, queued(), WithOutbox(b.TempDir(), OutboxOptions{Sync: sinks.SyncInterval}), BlockWhenFull())
		c.Start()
		run(b, c, 0)
	})
	b.Run("events=off,parallel", func(b *testing.B) {
		c := benchmarkClient(b, WithEventProcessor(discard{}))
		key := c.source.Current().FlagKey(7)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			u := c.NewUser("u-17", attributes)
			for pb.Next() {
				u.Decide(context.Background(), key, DisableDecisionEvent)
			}
		})
	})
}

// BenchmarkDecideNewUser makes the user too, as a request to a server does.
func BenchmarkDecideNewUser(b *testing.B) {
	c := benchmarkClient(b, WithEventProcessor(discard{}))
	key := c.source.Current().FlagKey(7)
	b.ReportAllocs()
	for b.Loop() {
		c.NewUser("u-17", attributes).Decide(context.Background(), key, DisableDecisionEvent)
	}
}

// BenchmarkDecideAll decides all 60.
func BenchmarkDecideAll(b *testing.B) {
	for name, options := range map[string]DecideOptions{"events=off": DisableDecisionEvent, "events=rendered": 0} {
		b.Run(name, func(b *testing.B) {
			u := benchmarkClient(b, WithEventProcessor(discard{})).NewUser("u-17", attributes)
			b.ReportAllocs()
			for b.Loop() {
				u.DecideAll(context.Background(), options)
			}
		})
	}
}

func BenchmarkTrackEvent(b *testing.B) {
	c := benchmarkClient(b, WithEventProcessor(discard{}))
	key := c.OptimizelyConfig().Events[0].Key
	u := c.NewUser("u-17", attributes)
	tags := map[string]any{"revenue": 4200, "value": 12.5, "category": "shoes"}
	b.ReportAllocs()
	for b.Loop() {
		if err := u.TrackEvent(context.Background(), key, tags); err != nil {
			b.Fatal(err)
		}
	}
}

// What a decision costs in allocations: the copy of the user, and an event's uuid.
func TestDecideAllocations(t *testing.T) {
	if isRace {
		t.Skip("the race detector makes pools forget")
	}
	c, err := New(WithDatafile(sample.Datafile(1, 60)), WithEventProcessor(discard{}))
	require.NoError(t, err)
	defer c.Close(context.Background())
	u := c.NewUser("u-17", attributes)
	key := c.source.Current().FlagKey(7)
	for _, row := range []struct {
		options DecideOptions
		most    float64
	}{{DisableDecisionEvent, 1}, {0, 2}} {
		if got := testing.AllocsPerRun(200, func() { u.Decide(context.Background(), key, row.options) }); got > row.most {
			t.Errorf("options %d: %v allocations, more than %v", row.options, got, row.most)
		}
	}
}
