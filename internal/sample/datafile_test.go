package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/examples"
)

func TestDatafileSameSeedSameBytes(t *testing.T) {
	sum := sha256.Sum256(Datafile(1, 60))
	assert.Equal(t, "9b87be005771cb6754357dd06747ea26494ae3d9ea86ccd928c4f1b872627791", hex.EncodeToString(sum[:]))
	assert.False(t, bytes.Equal(Datafile(1, 3), Datafile(2, 3)))
}

// The engine judges these files in its own tests; here they are held to their
// purpose: every reference leads somewhere, every id is used once.
func TestDatafilesHoldTogether(t *testing.T) {
	for name, text := range map[string][]byte{
		"example": examples.Datafile(),
		"0":       Datafile(1, 0),
		"3":       Datafile(1, 3),
		"60":      Datafile(1, 60),
		"1000":    Datafile(9, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			var p project
			require.NoError(t, json.Unmarshal(text, &p))
			assertHoldsTogether(t, &p)
		})
	}
}

func assertHoldsTogether(t *testing.T, p *project) {
	t.Helper()
	ids := map[string]string{}
	add := func(id, what string) {
		t.Helper()
		require.NotEmpty(t, id, what)
		require.Empty(t, ids[id], "%s %s is used twice", what, id)
		ids[id] = what
	}
	for _, a := range p.Attributes {
		add(a.ID, "attribute")
	}
	for _, a := range append(p.Audiences, p.TypedAudiences...) {
		add(a.ID, "audience")
		require.True(t, json.Valid(a.Conditions))
	}
	experiments := p.Experiments
	for _, g := range p.Groups {
		add(g.ID, "group")
		experiments = append(experiments, g.Experiments...)
		members := map[string]bool{}
		for _, e := range g.Experiments {
			members[e.ID] = true
		}
		assertRising(t, g.TrafficAllocation, members)
	}
	for _, e := range experiments {
		add(e.ID, "experiment")
	}
	rollouts := map[string]bool{"": true}
	for _, r := range p.Rollouts {
		add(r.ID, "rollout")
		rollouts[r.ID] = true
		require.NotEmpty(t, r.Experiments)
		for _, d := range r.Experiments {
			add(d.ID, "delivery")
		}
		experiments = append(experiments, r.Experiments...)
	}
	variables := map[string]bool{}
	for _, f := range p.FeatureFlags {
		add(f.ID, "flag")
		require.True(t, rollouts[f.RolloutID])
		for _, e := range f.ExperimentIDs {
			require.Equal(t, "experiment", ids[e])
		}
		for _, v := range f.Variables {
			add(v.ID, "variable")
			variables[v.ID] = true
			if v.SubType == "json" {
				require.True(t, json.Valid([]byte(v.DefaultValue)))
			}
		}
	}
	for _, e := range experiments {
		assertVariations(t, e.Variations, e.TrafficAllocation, add, variables)
		for _, a := range e.AudienceIDs {
			require.Equal(t, "audience", ids[a])
		}
		for _, key := range e.ForcedVariations {
			found := false
			for _, v := range e.Variations {
				found = found || v.Key == key
			}
			require.True(t, found)
		}
	}
	for _, e := range p.Events {
		add(e.ID, "event")
		for _, x := range e.ExperimentIDs {
			require.Equal(t, "experiment", ids[x])
		}
	}
	for _, h := range append(p.Holdouts, p.LocalHoldouts...) {
		add(h.ID, "holdout")
		assertVariations(t, h.Variations, h.TrafficAllocation, add, variables)
		for _, r := range h.IncludedRules {
			require.Equal(t, "experiment", ids[r])
		}
	}
}

func assertVariations(t *testing.T, variations []variation, traffic []slice, add func(id, what string), variables map[string]bool) {
	t.Helper()
	known := map[string]bool{"": true}
	require.NotEmpty(t, variations)
	for _, v := range variations {
		add(v.ID, "variation")
		known[v.ID] = true
		for _, u := range v.Variables {
			require.True(t, variables[u.ID])
		}
	}
	assertRising(t, traffic, known)
}

func assertRising(t *testing.T, traffic []slice, known map[string]bool) {
	t.Helper()
	last := 0
	for _, s := range traffic {
		require.True(t, known[s.EntityID], "traffic of a stranger")
		require.Greater(t, s.EndOfRange, last)
		require.LessOrEqual(t, s.EndOfRange, 10000)
		last = s.EndOfRange
	}
}

func BenchmarkDatafile(b *testing.B) {
	for b.Loop() {
		b.SetBytes(int64(len(Datafile(1, 1000))))
	}
}
