package kafkago

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Trap 2: committing what finished last rewinds, or skips.
func TestTrap02CommitsContiguousOnly(t *testing.T) {
	tr := newTracker(10)
	a, b, c := tr.begin(20), tr.begin(25), tr.begin(40)
	tr.finish(c)
	require.EqualValues(t, 10, tr.committable())
	tr.finish(b)
	require.EqualValues(t, 10, tr.committable())
	tr.finish(a)
	require.EqualValues(t, 40, tr.committable())
	require.Empty(t, tr.pending)
}

func TestTrackerNeverPassesUnfinishedWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 1000).Draw(t, "start")
		tr := newTracker(start)
		end := start
		var spans []*span // all ever begun, in order
		before := start
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				end += rapid.Int64Range(1, 50).Draw(t, "length")
				spans = append(spans, tr.begin(end))
			},
			"finish": func(t *rapid.T) {
				var open []*span
				for _, s := range spans {
					if !s.done {
						open = append(open, s)
					}
				}
				if len(open) == 0 {
					t.Skip("nothing open")
				}
				tr.finish(rapid.SampledFrom(open).Draw(t, "which"))
			},
			"": func(t *rapid.T) {
				want := start
				for _, s := range spans {
					if !s.done {
						break
					}
					want = s.end
				}
				if got := tr.committable(); got != want || got < before {
					t.Fatalf("committable %d, want %d (before: %d)", got, want, before)
				}
				before = want
			},
		})
	})
}
