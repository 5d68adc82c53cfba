package sinks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// outbox_disk_test.go has what disks and crashes do to an outbox.

// A crash between keeping a refused batch and noting that it is settled neither
// sends it again nor counts it twice.
func TestOutboxRefusedAndCrashed(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	mustAppend(t, o, testBatch(0, 100))
	mustAppend(t, o, testBatch(1, 100))
	o.mu.Lock()
	r, err := o.segments[0].read(o.segments[0].entries[0])
	require.NoError(t, err)
	require.NoError(t, o.keepRefused(refusedBatchOf(1, &r, &Result{Refused: []Refusal{{Batch: r.batch}}})))
	o.mu.Unlock()
	crashed := crash(t, o)
	o = openTest(t, crashed, OutboxOptions{})
	requireAccount(t, o, 2, 0, 1, 1)
	receiver := &receiver{}
	drain(t, o, receiver)
	require.Len(t, receiver.bodies, 1)

	// A last line that a crash cut short never counted.
	path := filepath.Join(crash(t, o), RefusedFile)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for cut := range whole {
		dir := crash(t, o)
		require.NoError(t, os.Truncate(filepath.Join(dir, RefusedFile), int64(cut)))
		torn, err := OpenOutbox(dir, OutboxOptions{})
		require.NoError(t, err)
		require.Zero(t, torn.Account().Refused)
		require.NoError(t, torn.Close())
	}
}

// crash copies an outbox's folder as it is at the moment, as if the process ended.
func crash(t *testing.T, o *Outbox) (dir string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(o.dir)))
	return dir
}

// Whatever end of the last file a crash leaves, all complete records before it
// are there, and the outbox goes on.
func TestOutboxTornAtEveryByte(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{})
	var ends []int64
	for n := range 3 {
		mustAppend(t, o, testBatch(n, 60))
		ends = append(ends, o.active().size)
	}
	whole, err := os.ReadFile(o.active().path)
	require.NoError(t, err)
	name := filepath.Base(o.active().path)
	// What is tested is what is read, so nothing needs to wait for the disk.
	quick := OutboxOptions{openFile: func(path string) (segmentFile, error) {
		file, err := openSegmentFile(path)
		return unsyncedFile{file}, err
	}}
	garble := []func([]byte, int) []byte{
		func(b []byte, at int) []byte { return b[:at] },
		func(b []byte, at int) []byte { return append(b[:at], make([]byte, 37)...) }, // room without content
		func(b []byte, at int) []byte { b[at] ^= 0x55; return b },
		func(b []byte, at int) []byte { return append(b[:at], "\xff\xff\xff\x7f and more"...) },
	}
	for at := 0; at < len(whole); at++ {
		for kind, change := range garble {
			if kind != 0 && at > 2*segmentHeader && (at+kind)%7 != 0 {
				continue // cut at every byte, harmed at every seventh
			}
			dir := t.TempDir()
			garbled := change(slices.Clone(whole), at)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), garbled, 0o600))
			var want uint64
			for _, end := range ends {
				if int64(at) >= end {
					want++
				}
			}
			torn, err := OpenOutbox(dir, quick)
			// A file's head was on disk before anything was written to it. (The four
			// spare bytes at its end don't matter.)
			if at < segmentHeader-4 && len(garbled) > segmentHeader {
				require.ErrorIs(t, err, ErrDamaged, "%d %d", at, kind)
				continue
			}
			require.NoError(t, err, "%d %d", at, kind)
			if at >= segmentHeader {
				require.Equal(t, want, torn.Account().Pending.Batches, "%d %d", at, kind)
			}
			next, err := torn.Append(t.Context(), testBatch(99, 50))
			require.NoError(t, err)
			require.Equal(t, torn.Account().Appended.Batches, next)
			require.NoError(t, torn.Close())
			again, err := OpenOutbox(dir, quick)
			require.NoError(t, err)
			require.Equal(t, next, again.Account().Pending.Batches)
			require.Zero(t, again.Account().CutBytes)
			require.NoError(t, again.Close())
		}
	}
}

type unsyncedFile struct{ segmentFile }

func (unsyncedFile) Sync() error { return nil }

// Damage where no crash can have caused it is told, not cut away.
func TestOutboxDamaged(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes})
	for n := range 20 {
		mustAppend(t, o, testBatch(n, 2000))
	}
	require.Greater(t, len(o.segments), 2)
	first, second, last := o.segments[0].path, o.segments[1].path, o.active().path
	for name, harm := range map[string]func(dir string) error{
		"a byte": func(dir string) error { return flip(filepath.Join(dir, filepath.Base(second)), 300) },
		"an end": func(dir string) error { return os.Truncate(filepath.Join(dir, filepath.Base(first)), 3000) },
		"a head": func(dir string) error { return flip(filepath.Join(dir, filepath.Base(last)), 10) },
		"a file": func(dir string) error { return os.Remove(filepath.Join(dir, filepath.Base(second))) },
		"a name": func(dir string) error {
			return os.Rename(filepath.Join(dir, filepath.Base(last)), segmentPath(dir, 99))
		},
		"the refused": func(dir string) error { return os.WriteFile(filepath.Join(dir, RefusedFile), []byte("x\n"), 0o600) },
	} {
		dir := crash(t, o)
		require.NoError(t, harm(dir), name)
		_, err := OpenOutbox(dir, OutboxOptions{})
		require.ErrorIs(t, err, ErrDamaged, name)
	}
	// The last file may be missing only if nobody was told of anything in it; that
	// can't be known, and the numbers before it still fit.
	dir := crash(t, o)
	require.NoError(t, flip(filepath.Join(dir, filepath.Base(last)), int(o.active().size)-10))
	cut := openTest(t, dir, OutboxOptions{})
	require.Positive(t, cut.Account().CutBytes)
	copies, err := filepath.Glob(filepath.Join(dir, "cut-*"))
	require.NoError(t, err)
	require.Len(t, copies, 1, "a copy of what was cut off")
	info, err := os.Stat(copies[0])
	require.NoError(t, err)
	require.Equal(t, cut.Account().CutBytes, info.Size())
}

func flip(path string, at int) error {
	content, err := os.ReadFile(path)
	if err == nil {
		content[at] ^= 1
		err = os.WriteFile(path, content, 0o600)
	}
	return err
}

// A record that goes bad while the outbox is open ends Run; it isn't posted.
func TestOutboxDamagedWhileOpen(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{})
	mustAppend(t, o, testBatch(0, 100))
	require.NoError(t, flipInPlace(o.active().path, 90))
	r := &receiver{}
	require.ErrorIs(t, o.Run(t.Context(), r.deliver), ErrDamaged)
	require.Empty(t, r.bodies)
	requireAccount(t, o, 1, 0, 0, 1)
}

func flipInPlace(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{0xee}, at)
	return errors.Join(err, f.Close())
}

// A faultyFile fails when it is told to.
type faultyFile struct {
	segmentFile
	faults *faults
}

type faults struct {
	room     atomic.Int64 // bytes left on the disk; negative: no limit
	sync     atomic.Bool
	truncate atomic.Bool
	syncs    atomic.Int64
}

func (f *faults) open(path string) (segmentFile, error) {
	file, err := openSegmentFile(path)
	return &faultyFile{file, f}, err
}

// WriteAt writes as far as there is room, as a disk does.
func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	room := f.faults.room.Load()
	if room < 0 || room >= int64(len(p)) {
		if room >= 0 {
			f.faults.room.Add(-int64(len(p)))
		}
		return f.segmentFile.WriteAt(p, at)
	}
	n, err := f.segmentFile.WriteAt(p[:room], at)
	return n, errors.Join(err, &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
}

func (f *faultyFile) Sync() error {
	f.faults.syncs.Add(1)
	if f.faults.sync.Load() {
		return syscall.EIO
	}
	return f.segmentFile.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if f.faults.truncate.Load() {
		return syscall.EIO
	}
	return f.segmentFile.Truncate(size)
}

// A full disk is told, leaves nothing half written, and passes.
func TestOutboxDiskFull(t *testing.T) {
	dir := t.TempDir()
	f := &faults{}
	f.room.Store(-1)
	o := openTest(t, dir, OutboxOptions{openFile: f.open})
	mustAppend(t, o, testBatch(0, 100))
	f.room.Store(60)
	_, err := o.Append(t.Context(), testBatch(1, 100))
	require.ErrorIs(t, err, syscall.ENOSPC)
	requireAccount(t, o, 1, 0, 0, 1)

	// What is delivered meanwhile is settled, though the disk can't take it.
	f.room.Store(0)
	r := &receiver{}
	drain(t, o, r)
	require.Len(t, r.bodies, 1)
	requireAccount(t, o, 1, 1, 0, 0)

	f.room.Store(-1)
	require.EqualValues(t, 2, mustAppend(t, o, testBatch(2, 100)))
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 2, 1, 0, 1)
	require.Zero(t, o.Account().CutBytes)
}

// After a failed fsync nothing more is acknowledged, until it is opened anew.
func TestOutboxSyncFails(t *testing.T) {
	dir := t.TempDir()
	f := &faults{}
	f.room.Store(-1)
	o, err := OpenOutbox(dir, OutboxOptions{openFile: f.open})
	require.NoError(t, err)
	mustAppend(t, o, testBatch(0, 100))
	f.sync.Store(true)
	_, err = o.Append(t.Context(), testBatch(1, 100))
	require.ErrorIs(t, err, syscall.EIO)
	f.sync.Store(false)
	_, err = o.Append(t.Context(), testBatch(2, 100))
	require.ErrorIs(t, err, syscall.EIO, "whatever the disk says later")
	require.ErrorIs(t, o.ClearRefused(), syscall.EIO)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	require.GreaterOrEqual(t, o.Account().Pending.Batches, uint64(1))
	mustAppend(t, o, testBatch(2, 100))

	// The same if what was half written can't be cut off.
	f.truncate.Store(true)
	dir = t.TempDir()
	f.truncate.Store(false)
	o, err = OpenOutbox(dir, OutboxOptions{openFile: f.open})
	require.NoError(t, err)
	mustAppend(t, o, testBatch(0, 100))
	f.truncate.Store(true)
	f.room.Store(40)
	_, err = o.Append(t.Context(), testBatch(1, 100))
	require.ErrorIs(t, err, syscall.ENOSPC)
	f.room.Store(-1)
	_, err = o.Append(t.Context(), testBatch(2, 100))
	require.Error(t, err)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 1, 0, 0, 1)
	require.EqualValues(t, 40, o.Account().CutBytes)
}

// SyncAlways: no append returns before an fsync that came after its write, but
// those that come together share one. SyncInterval: once per interval.
func TestOutboxSyncPolicies(t *testing.T) {
	f := &faults{}
	f.room.Store(-1)
	o := openTest(t, t.TempDir(), OutboxOptions{openFile: f.open})
	before := f.syncs.Load()
	for n := range 5 {
		mustAppend(t, o, testBatch(n, 100))
		require.Equal(t, before+int64(n)+1, f.syncs.Load())
	}
	before = f.syncs.Load()
	o.syncing.Lock() // a slow disk
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			if _, err := o.Append(t.Context(), testBatch(n, 100)); err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { return o.Account().Appended.Batches == 25 }, 5*time.Second, time.Millisecond)
	o.syncing.Unlock()
	group.Wait()
	require.Equal(t, before+1, f.syncs.Load())

	o = openTest(t, t.TempDir(), OutboxOptions{openFile: f.open, Sync: SyncInterval, SyncEvery: time.Hour})
	before = f.syncs.Load()
	for n := range 5 {
		mustAppend(t, o, testBatch(n, 100))
	}
	require.Equal(t, before, f.syncs.Load())
	o.mu.Lock()
	o.syncedAt = o.syncedAt.Add(-time.Hour)
	o.mu.Unlock()
	mustAppend(t, o, testBatch(5, 100))
	require.Equal(t, before+1, f.syncs.Load())
	mustAppend(t, o, testBatch(6, 100))
	require.NoError(t, o.Close())
	require.Equal(t, before+2, f.syncs.Load(), "at Close")

	// What is appended last is synced in its turn too, while Run runs.
	o = openTest(t, t.TempDir(), OutboxOptions{openFile: f.open, Sync: SyncInterval, SyncEvery: 10 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // 1: Run can end
	go func() {
		done <- o.Run(ctx, func(ctx context.Context, b Batch) (Result, error) {
			<-ctx.Done()
			return Result{Unsent: []Batch{b}}, ctx.Err()
		})
	}()
	o.mu.Lock()
	o.syncedAt = time.Now().Add(time.Hour)
	o.mu.Unlock()
	mustAppend(t, o, testBatch(0, 100))
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.synced == o.written
	}, 5*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	requireAccount(t, o, 1, 0, 0, 1)
}

func TestOutboxAppendAll(t *testing.T) {
	f := &faults{}
	f.room.Store(-1)
	o := openTest(t, t.TempDir(), OutboxOptions{openFile: f.open})
	before := f.syncs.Load()
	n, err := o.AppendAll(t.Context(), []Batch{testBatch(0, 100), testBatch(1, 100), testBatch(2, 100)})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, before+1, f.syncs.Load(), "one fsync for all")
	n, err = o.AppendAll(t.Context(), []Batch{testBatch(3, 100), {Endpoint: "x"}, testBatch(5, 100)})
	require.ErrorIs(t, err, ErrEndpoint)
	require.Equal(t, 1, n)
	require.Equal(t, before+2, f.syncs.Load())
	n, err = o.AppendAll(t.Context(), nil)
	require.NoError(t, err)
	require.Zero(t, n)
	requireAccount(t, o, 4, 0, 0, 4)
	f.sync.Store(true)
	n, err = o.AppendAll(t.Context(), []Batch{testBatch(4, 100)})
	require.ErrorIs(t, err, syscall.EIO)
	require.Zero(t, n)
}
