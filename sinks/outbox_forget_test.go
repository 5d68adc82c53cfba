package sinks

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// outbox_forget_test.go has what becomes of refused batches when there are too many.

// refuseAll refuses every batch for good.
func refuseAll(_ context.Context, b Batch) (Result, error) {
	return Result{Refused: []Refusal{{Batch: b, Status: 400, Reason: "status 400"}}}, nil
}

// seqs are the numbers of the refused batches that are kept.
func seqs(t *testing.T, o *Outbox) (list []uint64) {
	t.Helper()
	for batch, err := range o.Refused() {
		require.NoError(t, err)
		list = append(list, batch.Seq)
	}
	return list
}

// With a bound of their own refused batches never stop intake: the oldest make way, and
// nothing of it is silent.
func TestOutboxRefusedMakeWay(t *testing.T) {
	for name, whenFull := range map[string]WhenFull{"block": Block, "fail": Fail} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var told Tally
			options := OutboxOptions{
				MaxBytes: minOutboxBytes, MaxRefusedBytes: minRefusedBytes, WhenFull: whenFull,
				OnForget: func(n Tally) { told.Batches, told.Visitors = told.Batches+n.Batches, told.Visitors+n.Visitors },
			}
			o := openTest(t, dir, options)
			var reading []func() int
			for n := range 60 { // three times what all has room for
				mustAppend(t, o, testBatch(n, 3000))
				drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return refuseAll(t.Context(), b) }})
				if a := o.Account(); n%7 == 0 {
					require.LessOrEqual(t, a.RefusedBytes, int64(minRefusedBytes))
					require.LessOrEqual(t, a.Bytes, int64(minOutboxBytes))
					all := o.Refused()
					reading = append(reading, func() (read int) {
						for _, err := range all {
							require.NoError(t, err)
							read++
						}
						return read
					})
				}
			}
			check := func(o *Outbox, forgotten Tally) {
				t.Helper()
				requireAccount(t, o, 60, 0, 60, 0)
				a := o.Account()
				require.Equal(t, forgotten, a.Forgotten)
				list := seqs(t, o)
				require.Len(t, list, int(a.Kept.Batches))
				require.Equal(t, 2*a.Kept.Batches, a.Kept.Visitors)
				for i, seq := range list {
					require.EqualValues(t, 61-len(list)+i, seq, "the newest, oldest first")
				}
			}
			require.Greater(t, told.Batches, uint64(50))
			require.EqualValues(t, 60, told.Batches+o.Account().Kept.Batches)
			require.NotZero(t, o.Account().Kept)
			check(o, told)
			for _, read := range reading { // whatever was replaced since it was asked for
				require.EqualValues(t, o.Account().Kept.Batches, read())
			}
			info, err := os.Stat(filepath.Join(dir, RefusedFile))
			require.NoError(t, err)
			require.Equal(t, info.Size(), o.Account().RefusedBytes)
			before := o.Account()
			require.NoError(t, o.Close())
			o = openTest(t, dir, options)
			check(o, told)
			require.Equal(t, before.Kept, o.Account().Kept)
			require.NoError(t, o.ClearRefused())
			check(o, told) // what was cleared isn't forgotten
			require.Zero(t, o.Account().Kept)
			require.NoError(t, o.Close())
			o = openTest(t, dir, options)
			check(o, told)
			require.Zero(t, o.Account().Kept)
		})
	}
}

// An outbox that refused batches have filled takes batches again once it is opened with a
// bound for them, and they make way for a large batch beyond their bound.
func TestOutboxFullOfRefused(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{MaxBytes: minOutboxBytes, WhenFull: Fail})
	n := 0
	for err := error(nil); err == nil; n++ {
		_, err = o.Append(t.Context(), testBatch(n, 3000))
	}
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return refuseAll(t.Context(), b) }})
	_, err := o.Append(t.Context(), testBatch(0, 30_000))
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, o.Close())

	var told Tally
	o = openTest(t, dir, OutboxOptions{MaxBytes: minOutboxBytes, MaxRefusedBytes: minRefusedBytes, WhenFull: Fail, OnForget: func(n Tally) { told = n }})
	require.NotZero(t, told)
	require.Equal(t, told, o.Account().Forgotten)
	require.NotZero(t, o.Account().Kept)
	mustAppend(t, o, testBatch(0, 30_000))
	drain(t, o, &receiver{})
	mustAppend(t, o, testBatch(0, 60_000))
	require.LessOrEqual(t, o.Account().Bytes, int64(minOutboxBytes))
	require.Greater(t, o.Account().Forgotten.Batches, told.Batches-1)
	drain(t, o, &receiver{})
	requireAccount(t, o, uint64(n+1), 2, uint64(n-1), 0)
}

// A refused body that has no room even alone is left out, and its size told.
func TestOutboxLeavesOutLargeBodies(t *testing.T) {
	dir := t.TempDir()
	options := OutboxOptions{MaxBytes: minOutboxBytes, MaxRefusedBytes: minRefusedBytes}
	o := openTest(t, dir, options)
	large, small := testBatch(0, 40_000), testBatch(1, 1000)
	mustAppend(t, o, large)
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return refuseAll(t.Context(), b) }})
	mustAppend(t, o, small)
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return refuseAll(t.Context(), b) }})
	require.NoError(t, o.Close())
	o = openTest(t, dir, options)
	requireAccount(t, o, 2, 0, 2, 0)
	require.Zero(t, o.Account().Forgotten)
	var parts []RefusedPart
	for batch, err := range o.Refused() {
		require.NoError(t, err)
		parts = append(parts, batch.Parts...)
	}
	require.Len(t, parts, 2)
	require.Equal(t, len(large.Body), parts[0].LeftOut)
	require.Empty(t, parts[0].Body)
	require.Equal(t, "status 400", parts[0].Reason)
	require.Zero(t, parts[1].LeftOut)
	require.Equal(t, RefusedBody(small.Body), parts[1].Body)
}

// A batch that is among the refused but, for a crash, not settled in the log isn't
// delivered again when it is cleared from there.
func TestOutboxClearedAfterCrash(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{})
	mustAppend(t, o, testBatch(0, 100))
	mustAppend(t, o, testBatch(1, 100)) // keeps the log
	o.mu.Lock()
	r, err := o.segments[0].read(o.segments[0].entries[0])
	require.NoError(t, err)
	require.NoError(t, o.keepRefused(refusedBatchOf(1, &r, &Result{Refused: []Refusal{{Batch: r.batch}}})))
	o.mu.Unlock()
	dir := crash(t, o)
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 2, 0, 1, 1)
	require.NoError(t, o.ClearRefused())
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 2, 0, 1, 1)
}
