package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const testEndpoint = "http://logx.test/v1/events"

func testBatch(n, size int) Batch {
	body := fmt.Sprintf(`{"n":%d,"visitors":[`, n)
	body += strings.Repeat("0,", max(size-len(body)-2, 1)/2) + "0]}"
	return Batch{Endpoint: testEndpoint, ID: fmt.Sprint("id-", n), Visitors: 2, Body: []byte(body)}
}

func openTest(t *testing.T, dir string, o OutboxOptions) *Outbox {
	t.Helper()
	outbox, err := OpenOutbox(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, outbox.Close()) })
	return outbox
}

func mustAppend(t *testing.T, o *Outbox, b Batch) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	seq, err := o.Append(ctx, b)
	require.NoError(t, err)
	return seq
}

// A receiver takes batches as a server would.
type receiver struct {
	mu     sync.Mutex
	bodies []string
	answer func(Batch) (Result, error) // nil: accepts
}

func (r *receiver) deliver(ctx context.Context, b Batch) (Result, error) {
	r.mu.Lock()
	r.bodies = append(r.bodies, string(b.Body))
	r.mu.Unlock()
	if r.answer != nil {
		return r.answer(b)
	}
	return Result{Delivered: b.Visitors, Attempts: 1}, nil
}

// drain delivers everything, or until the outbox has stopped doing so.
func drain(t *testing.T, o *Outbox, r *receiver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- o.Run(ctx, r.deliver) }()
	require.NoError(t, o.Wait(ctx))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func requireAccount(t *testing.T, o *Outbox, appended, delivered, refused, pending uint64) {
	t.Helper()
	a := o.Account()
	require.Equal(t, []uint64{appended, delivered, refused, pending},
		[]uint64{a.Appended.Batches, a.Delivered.Batches, a.Refused.Batches, a.Pending.Batches})
	require.Equal(t, a.Appended.Visitors, a.Delivered.Visitors+a.Refused.Visitors+a.Pending.Visitors)
	require.LessOrEqual(t, a.Pending.Visitors, a.Appended.Visitors)
}

func TestOutboxKeepsItsBatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	o := openTest(t, dir, OutboxOptions{Concurrency: 1})
	var want []string
	for n := range 5 {
		b := testBatch(n, 100*n)
		require.EqualValues(t, n+1, mustAppend(t, o, b))
		want = append(want, string(b.Body))
	}
	requireAccount(t, o, 5, 0, 0, 5)
	require.NoError(t, o.Close())
	require.NoError(t, o.Close(), "twice is fine")
	_, err := o.Append(t.Context(), testBatch(9, 9))
	require.ErrorIs(t, err, ErrClosed)

	o = openTest(t, dir, OutboxOptions{Concurrency: 1})
	requireAccount(t, o, 5, 0, 0, 5)
	r := &receiver{}
	drain(t, o, r)
	require.Equal(t, want, r.bodies, "in order, the same bytes")
	requireAccount(t, o, 5, 5, 0, 0)
	require.NoError(t, o.Close())

	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 5, 5, 0, 0)
	require.EqualValues(t, 6, mustAppend(t, o, testBatch(5, 10)), "numbers go on")
	r = &receiver{}
	drain(t, o, r)
	require.Len(t, r.bodies, 1, "what is settled isn't sent again")
	requireAccount(t, o, 6, 6, 0, 0)
}

func TestOutboxHandsOverWhatItGot(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	want := Batch{Endpoint: "http://name:secret@host/ä?a=b", ID: strings.Repeat("i", 70_000), Body: []byte("not json \xff\x00\n")}
	mustAppend(t, o, want)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	var got Batch
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		got = b
		return Result{Refused: []Refusal{{Batch: b, Reason: "why", Answer: "what\xff"}}}, nil
	}})
	want.ID, want.Visitors = want.ID[:65535], 1
	require.Equal(t, want, got)
	requireAccount(t, o, 1, 0, 1, 0)
	for refused, err := range o.Refused() {
		require.NoError(t, err)
		require.Equal(t, string(want.Body), string(refused.Parts[0].Body), "also of a body that isn't UTF-8")
		require.Equal(t, "why", refused.Parts[0].Reason)
	}
}

func TestOutboxRefused(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	for n := range 6 {
		mustAppend(t, o, testBatch(n, 100))
	}
	// Of every batch but the first, one visitor is refused.
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		if b.ID == "id-0" {
			return Result{Delivered: 2}, nil
		}
		one := b
		one.Visitors = 1
		return Result{Delivered: 1, Refused: []Refusal{{Batch: one, Status: 413, Reason: "status 413"}}}, nil
	}})
	check := func(o *Outbox, kept int) {
		t.Helper()
		requireAccount(t, o, 6, 1, 5, 0)
		require.EqualValues(t, 5, o.Account().Refused.Visitors)
		require.EqualValues(t, 7, o.Account().Delivered.Visitors)
		n := 0
		for batch, err := range o.Refused() {
			require.NoError(t, err)
			require.Equal(t, 1, batch.Delivered)
			require.Equal(t, 1, batch.Refused)
			n++
		}
		require.Equal(t, kept, n)
	}
	check(o, 5)
	require.NoError(t, o.Close())
	for _, err := range o.Refused() {
		require.ErrorIs(t, err, ErrClosed)
	}
	o = openTest(t, dir, OutboxOptions{})
	check(o, 5)
	before := o.Account().Bytes
	require.NoError(t, o.ClearRefused())
	require.Less(t, o.Account().Bytes, before)
	check(o, 0)
	require.NoError(t, o.ClearRefused())
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	check(o, 0)
	mustAppend(t, o, testBatch(6, 100))
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) {
		return Result{Refused: []Refusal{{Batch: b}}}, nil
	}})
	requireAccount(t, o, 7, 1, 6, 0)
	require.NoError(t, o.Close())
	o = openTest(t, dir, OutboxOptions{})
	requireAccount(t, o, 7, 1, 6, 0)
}

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
	require.NoError(t, o.refused.append(refusedBatchOf(1, &r, &Result{Refused: []Refusal{{Batch: r.batch}}})))
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

func TestOutboxIsLocked(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{})
	_, err := OpenOutbox(dir, OutboxOptions{})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, dir)
	require.NoError(t, o.Close())
	openTest(t, dir, OutboxOptions{})
}

// Its files never grow beyond the bound, however much goes through.
func TestOutboxIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := openTest(t, dir, OutboxOptions{MaxBytes: minOutboxBytes, Sync: SyncInterval})
	r := &receiver{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // 1: Run can end
	go func() { done <- o.Run(ctx, r.deliver) }()
	for n := range 500 {
		mustAppend(t, o, testBatch(n, 3000))
		if n%50 == 0 {
			require.LessOrEqual(t, o.Account().Bytes, int64(minOutboxBytes)+1000)
			require.LessOrEqual(t, sizeOf(t, dir), int64(minOutboxBytes)+1000)
		}
	}
	require.NoError(t, o.Wait(ctx))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	requireAccount(t, o, 500, 500, 0, 0)
	require.Len(t, r.bodies, 500)
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if info, err := f.Info(); err == nil { // else: removed meanwhile
			size += info.Size()
		}
	}
	return size
}

func TestOutboxFull(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes, WhenFull: Fail})
	_, err := o.Append(t.Context(), testBatch(0, minOutboxBytes))
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = o.Append(t.Context(), Batch{Endpoint: "logx", Body: []byte("{}")})
	require.ErrorIs(t, err, ErrEndpoint)
	n := 0
	for ; err == nil || n == 0; n++ {
		_, err = o.Append(t.Context(), testBatch(n, 3000))
	}
	require.ErrorIs(t, err, ErrFull)
	require.Greater(t, n, 15)
	requireAccount(t, o, uint64(n-1), 0, 0, uint64(n-1))

	// Refused batches hold their room until they are cleared.
	drain(t, o, &receiver{answer: func(b Batch) (Result, error) { return Result{Refused: []Refusal{{Batch: b}}}, nil }})
	_, err = o.Append(t.Context(), testBatch(0, 30_000))
	require.ErrorIs(t, err, ErrFull)
	require.NoError(t, o.ClearRefused())
	mustAppend(t, o, testBatch(0, 30_000))
}

func TestOutboxSlowsTheCaller(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{MaxBytes: minOutboxBytes})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = o.Append(ctx, testBatch(n, 3000))
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	appended := make(chan error, 1) // 1: the goroutine can end
	go func() {
		_, err := o.Append(t.Context(), testBatch(n, 3000))
		appended <- err
	}()
	drain(t, o, &receiver{})
	require.NoError(t, <-appended)

	// Closing lets go of those who wait.
	for err = nil; err == nil; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = o.Append(ctx, testBatch(n, 3000))
		cancel()
	}
	go func() {
		_, err := o.Append(t.Context(), testBatch(n, 3000))
		appended <- err
	}()
	waited := make(chan error, 1) // 1: the goroutine can end
	go func() { waited <- o.Wait(t.Context()) }()
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.waiters == 2
	}, 5*time.Second, time.Millisecond)
	require.NoError(t, o.Close())
	require.ErrorIs(t, <-appended, ErrClosed)
	require.ErrorIs(t, <-waited, ErrClosed)
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

// Endpoints don't hold each other up, and each gets at most Concurrency at once.
func TestOutboxLanes(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{Concurrency: 2})
	const us, eu = "http://us.test/", "http://eu.test/"
	for n := range 10 {
		for _, endpoint := range []string{us, eu} {
			b := testBatch(n, 100)
			b.Endpoint = endpoint
			mustAppend(t, o, b)
		}
	}
	release := make(chan struct{}) // closed to let EU go; never sent to
	var atUS, inEU, most atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1) // 1: Run can end
	go func() {
		done <- o.Run(ctx, func(ctx context.Context, b Batch) (Result, error) {
			if b.Endpoint == us {
				atUS.Add(1)
				return Result{Delivered: b.Visitors}, nil
			}
			most.Store(max(most.Load(), inEU.Add(1)))
			defer inEU.Add(-1)
			<-release
			return Result{Delivered: b.Visitors}, nil
		})
	}()
	require.Eventually(t, func() bool { return atUS.Load() == 10 && inEU.Load() == 2 }, 10*time.Second, time.Millisecond)
	requireAccount(t, o, 20, 10, 0, 10)
	close(release)
	require.NoError(t, o.Wait(ctx))
	require.LessOrEqual(t, most.Load(), int64(2))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// With a concurrency of 1 batches arrive in order, across segments and restarts.
func TestOutboxOrder(t *testing.T) {
	dir := t.TempDir()
	options := OutboxOptions{Concurrency: 1, MaxBytes: 1 << 20, Sync: SyncInterval}
	r := &receiver{}
	var want []string
	n := 0
	for range 4 {
		o := openTest(t, dir, options)
		for range 200 {
			b := testBatch(n, 900)
			mustAppend(t, o, b)
			want = append(want, string(b.Body))
			n++
		}
		drain(t, o, r)
		require.NoError(t, o.Close())
	}
	require.Equal(t, want, r.bodies)
}

// An interrupted Run leaves what was under way pending, for the next one.
func TestOutboxRunAgain(t *testing.T) {
	o := openTest(t, t.TempDir(), OutboxOptions{})
	for n := range 10 {
		mustAppend(t, o, testBatch(n, 100))
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := o.Run(ctx, func(ctx context.Context, b Batch) (Result, error) {
		cancel()
		<-ctx.Done()
		return Result{Unsent: []Batch{b}}, ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	requireAccount(t, o, 10, 0, 0, 10)
	broken := errors.New("broken")
	require.ErrorIs(t, o.Run(t.Context(), func(context.Context, Batch) (Result, error) { return Result{}, broken }), broken)
	requireAccount(t, o, 10, 0, 0, 10)
	r := &receiver{}
	drain(t, o, r)
	require.Len(t, r.bodies, 10)
}

// A maximum age refuses what couldn't be delivered in time, but not untried.
func TestOutboxMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := OpenOutbox(t.TempDir(), OutboxOptions{MaxAge: time.Hour})
		require.NoError(t, err)
		begin := time.Now()
		mustAppend(t, o, testBatch(0, 100))
		var given []time.Duration
		undelivered := func(ctx context.Context, b Batch) (Result, error) {
			<-ctx.Done()
			given = append(given, time.Since(begin))
			return Result{Delivered: 1, Unsent: []Batch{{Visitors: 1, Body: b.Body}}}, context.Cause(ctx)
		}
		run := func(deliver func(context.Context, Batch) (Result, error)) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1) // 1: Run can end
			go func() { done <- o.Run(ctx, deliver) }()
			require.NoError(t, o.Wait(t.Context()))
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		run(undelivered)
		require.Equal(t, []time.Duration{time.Hour}, given)
		requireAccount(t, o, 1, 0, 1, 0)
		require.EqualValues(t, 1, o.Account().Delivered.Visitors)
		for refused, err := range o.Refused() {
			require.NoError(t, err)
			require.Equal(t, "not delivered within 1h0m0s: too old", refused.Parts[0].Reason)
		}
		mustAppend(t, o, testBatch(1, 100))
		time.Sleep(2 * time.Hour)
		begin, given = time.Now(), nil
		run(func(ctx context.Context, b Batch) (Result, error) {
			<-ctx.Done()
			given = append(given, time.Since(begin))
			return Result{}, context.Cause(ctx) // says nothing about what is unsent: all is
		})
		require.Equal(t, []time.Duration{lastTry}, given)
		require.EqualValues(t, 3, o.Account().Refused.Visitors)
		require.NoError(t, o.Close())
	})
}

func TestOutboxOptions(t *testing.T) {
	_, err := OpenOutbox(t.TempDir(), OutboxOptions{Sync: 9, SyncEvery: -1, MaxBytes: 1, Concurrency: -1, MaxAge: -1})
	for _, want := range []string{"sync policy", "interval", "64 KiB", "concurrency", "age"} {
		require.ErrorContains(t, err, want)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = OpenOutbox(file, OutboxOptions{})
	require.Error(t, err)
}

func TestRefusedBodyJSON(t *testing.T) {
	for _, body := range []string{"", `{"a":"<ü>"}`, "\xff\x00", "a\nb", "\u2028"} {
		text, err := json.Marshal(RefusedBody(body))
		require.NoError(t, err)
		var back RefusedBody
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, body, string(back))
	}
}
