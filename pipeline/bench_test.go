package pipeline

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/examples"
	"sortition/internal/sample"
)

// nowhere is a producer that takes everything at once.
type nowhere struct{ outputs, bytes int }

func (n *nowhere) Produce(_ context.Context, outputs []Output) error {
	n.outputs += len(outputs)
	for i := range outputs {
		n.bytes += len(outputs[i].Value)
	}
	return nil
}

// sampleBatch is a micro-batch of sample activities.
func sampleBatch(t testing.TB, n int, bad int) *Batch {
	t.Helper()
	options := sample.DefaultOptions()
	options.Bad = bad
	g := sample.NewGenerator(7, options)
	b := &Batch{Topic: "activities", Partition: 3}
	for i := range n {
		value := g.AppendNext(nil)
		b.Records = append(b.Records, Record{Key: append([]byte{}, g.Key()...), Value: value, Offset: int64(i), Time: g.Time()})
	}
	return b
}

func testConfig() Config {
	return Config{
		Settings: Settings{Stream: "test", DecideAll: true, Client: decision.Client{Name: "sortition", Version: "test"}},
		Topics:   Topics{Activities: "activities", Decisions: "decisions", Events: "events", DeadLetters: "dead-letters"},
	}
}

func exampleSnapshot(t testing.TB) *Latest {
	t.Helper()
	p, err := decision.Compile(examples.Datafile())
	require.NoError(t, err)
	return NewLatest(NewSnapshot(p))
}

// One micro-batch of 1,000 activities, ten flags each, from the message to the
// ack; nothing is stored, so this is the stage's own cost.
func BenchmarkHandleBatch(b *testing.B) {
	for _, events := range []bool{false, true} {
		name := "decisions"
		if events {
			name = "decisions+events"
		}
		b.Run(name, func(b *testing.B) {
			cfg := testConfig()
			if !events {
				cfg.Options |= decision.DisableDecisionEvent
			}
			to := &nowhere{}
			p, err := NewAssign(cfg, AtLeastOnce(to), exampleSnapshot(b), nil)
			require.NoError(b, err)
			batch := sampleBatch(b, 1000, 4)
			msg := message.NewMessage("1", nil)
			msg.SetContext(WithBatch(context.Background(), batch))
			require.NoError(b, p.Handle(msg))
			*to = nowhere{}
			b.ReportAllocs()
			start := time.Now()
			b.ResetTimer()
			for range b.N {
				if err := p.Handle(msg); err != nil {
					b.Fatal(err)
				}
			}
			n := float64(b.N * len(batch.Records))
			b.ReportMetric(n/time.Since(start).Seconds(), "records/s")
			b.ReportMetric(float64(to.bytes)/n, "B-out/record")
		})
	}
}
