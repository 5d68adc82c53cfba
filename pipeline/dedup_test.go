package pipeline

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

func newDedup(t testing.TB, window time.Duration, size int) *Dedup {
	d, err := NewDedup(window, size)
	require.NoError(t, err)
	return d
}

func impression(n int) *decision.Impression {
	return &decision.Impression{CampaignID: "1", ExperimentID: "2", VariationID: fmt.Sprint(n), FlagKey: "f", RuleKey: "r"}
}

func TestDedupBounds(t *testing.T) {
	_, err := NewDedup(0, 0)
	require.ErrorContains(t, err, "window 0s")
	require.ErrorContains(t, err, "size 0")

	for _, size := range []int{1, 3, 1024, 5000} {
		d := newDedup(t, time.Second, size)
		b := d.NewBatch()
		for i := range 4 * size {
			require.False(t, b.IsRepeat("u", impression(i), 0))
			if i%7 == 0 {
				b.Commit()
			}
		}
		b.Commit()
		require.LessOrEqual(t, d.Len(), size)
		require.Greater(t, d.Len(), size/2)
		require.True(t, b.IsRepeat("u", impression(4*size-1), 0), "the last one is among those kept")
		require.False(t, b.IsRepeat("u", impression(0), 0), "the first one is forgotten, and so is sent again")
	}
}

// Nothing is remembered before the batch is stored.
func TestDedupHasTwoPhases(t *testing.T) {
	d := newDedup(t, time.Second, 100)
	b, other := d.NewBatch(), d.NewBatch()
	require.False(t, b.IsRepeat("u", impression(1), 10))
	require.True(t, b.IsRepeat("u", impression(1), 11), "it came earlier in the batch")
	require.False(t, other.IsRepeat("u", impression(1), 12), "another batch doesn't know what isn't stored")
	require.Zero(t, d.Len())

	b.Forget() // nacked
	require.Zero(t, d.Len())
	require.False(t, b.IsRepeat("u", impression(1), 10), "the repeated batch sends what the failed one didn't store")
	b.Commit()
	require.Equal(t, 1, d.Len())
	require.True(t, b.IsRepeat("u", impression(1), 10))
	other.Forget()
	require.True(t, other.IsRepeat("u", impression(1), 12))

	// What a batch only asked about is not its own: a repeat prolongs nothing.
	other.Commit()
	require.False(t, other.IsRepeat("u", impression(1), 1010))
}

func TestDedupWindow(t *testing.T) {
	for _, inOneBatch := range []bool{true, false} {
		d := newDedup(t, time.Second, 100)
		b := d.NewBatch()
		for _, step := range []struct {
			at       int64
			isRepeat bool
		}{
			{5000, false}, {5000, true}, {5999, true}, {6000, false}, {6999, true},
			{5500, true},                 // late, and within a second of 6000
			{5000, false},                // late by a second: sent, though it was, too
			{6500, true},                 // the later one remains what is remembered
			{7000, false}, {-100, false}, // times before the epoch are times
			{7500, true},
		} {
			require.Equal(t, step.isRepeat, b.IsRepeat("u", impression(1), step.at), "%d in one batch: %t", step.at, inOneBatch)
			if !inOneBatch {
				b.Commit()
			}
		}
	}
}

// Whatever differs between two impressions makes them two, wherever a field ends.
func TestDedupIdentity(t *testing.T) {
	d := newDedup(t, time.Second, 100)
	b := d.NewBatch()
	base := decision.Impression{CampaignID: "a", ExperimentID: "b", VariationID: "c", FlagKey: "d", RuleKey: "e", CMABUUID: "f"}
	all := []decision.Impression{base, {}, {CampaignID: "ab", VariationID: "c", FlagKey: "d", RuleKey: "e", CMABUUID: "f"}}
	for _, change := range []func(*decision.Impression){
		func(im *decision.Impression) { im.CampaignID = "x" }, func(im *decision.Impression) { im.ExperimentID = "x" },
		func(im *decision.Impression) { im.VariationID = "x" }, func(im *decision.Impression) { im.FlagKey = "x" },
		func(im *decision.Impression) { im.RuleKey = "x" }, func(im *decision.Impression) { im.CMABUUID = "x" },
	} {
		im := base
		change(&im)
		all = append(all, im)
	}
	for _, user := range []string{"", "u", "ua"} {
		for i := range all {
			require.False(t, b.IsRepeat(user, &all[i], 0), "%q %+v", user, all[i])
		}
	}
	for i := range all {
		require.True(t, b.IsRepeat("u", &all[i], 0))
	}
}

// Over any order of batches, some of which fail, it answers as a list of what was
// stored would.
func TestDedupAgainstModel(t *testing.T) {
	const window = 50
	type stored struct {
		user, variation int
		at              int64
	}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := newDedup(t, window*time.Millisecond, 10_000)
		b := d.NewBatch()
		var committed, pending []stored
		numRepeats := 0
		for step := range 400 {
			now := stored{r.IntN(5), r.IntN(3), int64(step) + r.Int64N(3*window)} // late ones among them
			// The latest of each list is what counts.
			latest := func(list []stored) (at int64, ok bool) {
				for _, s := range list {
					if s.user == now.user && s.variation == now.variation && (!ok || s.at > at) {
						at, ok = s.at, true
					}
				}
				return at, ok
			}
			isNear := func(list []stored) bool {
				at, ok := latest(list)
				return ok && max(at, now.at)-min(at, now.at) < window
			}
			want := isNear(committed) || isNear(pending)
			require.Equal(t, want, b.IsRepeat(fmt.Sprint(now.user), impression(now.variation), now.at), "seed %d, step %d", seed, step)
			if want {
				numRepeats++
			} else {
				pending = append(pending, now)
			}
			switch r.IntN(20) {
			case 0:
				b.Forget()
				pending = nil
			case 1:
				b.Commit()
				committed, pending = append(committed, pending...), nil
			}
		}
		require.Positive(t, numRepeats)
	}
}

// Many workers over the same users: whatever they agree on, each exposure is sent at
// least once and at most once by each.
func TestDedupConcurrently(t *testing.T) {
	const workers, users = 8, 300
	d := newDedup(t, time.Second, 100_000)
	sent := make([]atomic.Int64, users)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			b := d.NewBatch()
			for round := range 3 {
				for i := range users {
					user := (i + w*37) % users
					if !b.IsRepeat(fmt.Sprint(user), impression(0), 0) {
						sent[user].Add(1)
					}
					if i%10 == 0 {
						b.Commit()
					}
				}
				if round == 1 {
					b.Forget() // takes nothing back that is committed
				}
				b.Commit()
				_ = d.Len()
			}
		})
	}
	group.Wait()
	require.Equal(t, users, d.Len())
	for user := range sent {
		require.GreaterOrEqual(t, sent[user].Load(), int64(1))
		require.LessOrEqual(t, sent[user].Load(), int64(workers))
	}
}

func TestDedupDoesNotAllocate(t *testing.T) {
	d := newDedup(t, time.Second, 1000)
	b := d.NewBatch()
	im := impression(1)
	b.IsRepeat("u", im, 0)
	require.Zero(t, testing.AllocsPerRun(100, func() { b.IsRepeat("u", im, 1) }), "within a batch")
	b.Commit()
	require.Zero(t, testing.AllocsPerRun(100, func() { b.IsRepeat("u", im, 1) }), "stored")
	require.Zero(t, testing.AllocsPerRun(100, func() { b.IsRepeat("u", im, 5000); b.Forget() }), "sent")
	require.Zero(t, testing.AllocsPerRun(100, func() { b.IsRepeat("u", im, 5000); b.Commit() }), "sent and stored again")
}

func BenchmarkDedup(b *testing.B) {
	d := newDedup(b, time.Hour, 1_000_000)
	batch := d.NewBatch()
	users := make([]string, 1<<19)
	for i := range users {
		users[i] = fmt.Sprint("user-", i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	im := impression(1)
	for i := range users {
		batch.IsRepeat(users[i], im, 0)
		if i%1000 == 0 {
			batch.Commit()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ResetTimer()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		batch.IsRepeat(users[i&(1<<19-1)], im, 1)
		if i++; i%1000 == 0 {
			batch.Commit()
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(d.Len()), "B/exposure")
}
