package cmab

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// keeper keeps the query the engine makes, to ask again without the engine.
type keeper struct{ q *decision.PredictionQuery }

func (k *keeper) Predict(_ context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	k.q = q
	return decision.Prediction{VariationID: "50012"}, nil
}

// kept is a Predictor whose cache has the answer to the query.
func kept(t testing.TB) (*Predictor, *decision.PredictionQuery) {
	t.Helper()
	project, err := decision.Compile(datafile(10000, `"501","502"`))
	require.NoError(t, err)
	var u decision.User
	u.Reset(project, "u1")
	for k, v := range gold {
		u.SetAttribute(k, v)
	}
	k := &keeper{}
	project.Decide(t.Context(), &u, "reco", 0, &decision.Env{Predictor: k})
	p, err := New(DefaultConfig())
	require.NoError(t, err)
	key := Key{UserID: "u1", RuleID: "30002"}
	require.NoError(t, p.cache.Save(t.Context(), key, Entry{AttributesHash: hashOf(goldList()), VariationID: "50012", UUID: "x"}))
	return p, k.q
}

func TestHitDoesNotAllocate(t *testing.T) {
	p, q := kept(t)
	if testing.CoverMode() != "" || isRace {
		t.Skip("instrumented code allocates")
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if answer, err := p.Predict(context.Background(), q); err != nil || answer.UUID != "x" {
			t.Fatal("not a hit")
		}
	}))
}

func BenchmarkHit(b *testing.B) {
	p, q := kept(b)
	b.ReportAllocs()
	for b.Loop() {
		if answer, err := p.Predict(context.Background(), q); err != nil || answer.VariationID != "50012" {
			b.Fatal("not a hit")
		}
	}
}

func BenchmarkHitParallel(b *testing.B) {
	p, q := kept(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if answer, err := p.Predict(context.Background(), q); err != nil || answer.VariationID != "50012" {
				b.Error("not a hit")
				return
			}
		}
	})
}
