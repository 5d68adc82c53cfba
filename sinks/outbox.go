package sinks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

// SyncPolicy says when appended batches are forced to the disk.
type SyncPolicy uint8

// The policies. Under both, what Append has acknowledged survives the end of the
// process at any moment, kill -9 included: it is in the kernel's hands.
const (
	// SyncAlways: before Append returns, so acknowledged batches also survive a
	// crash of the machine. Appends that come at the same time share one fsync.
	SyncAlways SyncPolicy = iota
	// SyncInterval: once per SyncEvery. A crash of the machine loses at most the
	// batches acknowledged since then.
	SyncInterval
)

// OutboxOptions configure an [Outbox]. Zero values stand for the defaults.
type OutboxOptions struct {
	Sync      SyncPolicy
	SyncEvery time.Duration // of SyncInterval; default 1 s
	// MaxBytes bounds the files: batches not settled yet, settled ones whose file
	// isn't empty of others yet, and refused ones. Default 1 GiB, at least 64 KiB.
	MaxBytes int64
	// MaxRefusedBytes bounds [RefusedFile], so that refused batches can't fill the
	// outbox: at the bound the oldest half of it makes way, which the account counts and
	// OnForget is told, and a body that is larger is left out. 16 KiB to half of
	// MaxBytes. Default 0: nothing is ever forgotten; when refused batches hold the room,
	// Append returns [ErrFull] until somebody calls [Outbox.ClearRefused].
	MaxRefusedBytes int64
	// OnForget is told how much was forgotten since it was last called, by the call that
	// caused it: OpenOutbox, Append or Run, the last ones concurrently.
	OnForget func(Tally)
	WhenFull WhenFull
	// Concurrency bounds the batches under way to one endpoint, those between two
	// attempts included: with a [Poster] it should be well above the requests at once,
	// so that one batch's pauses cost the others nothing. They are begun in the order
	// they were appended; with 1 they also arrive in it. Default 32.
	Concurrency int
	// MaxAge refuses batches that are still undelivered at that age, after at
	// least one try. Default 0: never; a transient failure is no reason to give up.
	// Source: event-batching.md EB-P4.
	MaxAge time.Duration

	openFile func(string) (segmentFile, error) // for tests: a disk that fails
}

func (o OutboxOptions) withDefaults() OutboxOptions {
	setDefault(&o.SyncEvery, time.Second)
	setDefault(&o.MaxBytes, DefaultOutboxBytes)
	setDefault(&o.Concurrency, 32)
	if o.openFile == nil {
		o.openFile = openSegmentFile
	}
	return o
}

// DefaultOutboxBytes bounds an outbox unless told otherwise.
const DefaultOutboxBytes = 1 << 30

const (
	minOutboxBytes  = 64 << 10
	minRefusedBytes = 16 << 10
	maxSegmentBytes = 16 << 20
)

// Validate reports all faults.
func (o OutboxOptions) Validate() error {
	o = o.withDefaults()
	var faults []error
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, errors.New(text))
		}
	}
	fault(o.Sync > SyncInterval, "unknown sync policy")
	fault(o.SyncEvery < 0, "the sync interval must be positive")
	fault(o.MaxBytes < minOutboxBytes, "the outbox must have room for 64 KiB at least")
	fault(o.MaxRefusedBytes != 0 && (o.MaxRefusedBytes < minRefusedBytes || o.MaxRefusedBytes > o.MaxBytes/2),
		"the bound of refused batches must be 16 KiB to half of the outbox's")
	fault(o.Concurrency < 0 || o.Concurrency > 1000, "the concurrency must be 1 to 1000")
	fault(o.MaxAge < 0, "the maximum age must not be negative")
	return errors.Join(faults...)
}

// An Outbox is a queue of batches on disk. Append returns when a batch is on
// disk; Run delivers in the background, again after a crash, until each batch is
// accepted or refused for good. Refused ones are kept with the reason. At every
// moment, appended = delivered + refused + pending.
//
// A folder belongs to one Outbox at a time; a lock that ends with the process
// sees to it. Safe for concurrent use. How the files look is told in
// outbox_record.go.
type Outbox struct {
	dir  string
	o    OutboxOptions
	lock *os.File
	wake chan struct{} // capacity 1: there is something to begin; a second signal would say the same

	// syncing is held while the log is forced to disk. It is taken before mu.
	syncing sync.Mutex

	mu        sync.Mutex // guards all below
	segments  []*segment // oldest first; the last one is written to
	next      uint64     // number of the next append
	visitors  uint64     // ever appended
	pending   Tally
	bytes     int64 // of the segments
	refused   *refusedFile
	untold    Tally    // forgotten, and OnForget doesn't know
	unwritten []uint64 // settled, but the disk had no room to say so
	lanes     []*lane
	laneOf    map[string]uint16
	written   uint64 // bytes written to the log since it was opened
	synced    uint64 // of those, forced to disk
	syncedAt  time.Time
	cut       int64         // bytes found unreadable at the end when opened
	changed   chan struct{} // closed and made anew when something was settled or freed; nobody ever sends
	waiters   int           // for changed
	broken    error
	isClosed  bool
	stop      context.CancelFunc // ends Run; nil unless running
	stopped   chan struct{}      // closed when Run has returned
}

// A lane is what goes to one endpoint.
type lane struct {
	endpoint string
	cursor   uint64 // everything of the lane before it has been begun
	inFlight int
}

// A Tally counts batches and the visitors in them.
type Tally struct {
	Batches  uint64 `json:"batches"`
	Visitors uint64 `json:"visitors"`
}

func (t *Tally) add(visitors int) {
	t.Batches++
	t.Visitors += uint64(visitors)
}

func (t *Tally) remove(visitors int) {
	t.Batches--
	t.Visitors -= uint64(visitors)
}

// An Account says what became of everything ever appended to an outbox: always
// Appended = Delivered + Refused + Pending. Of a batch that was refused in part
// the accepted visitors count as delivered, and the batch as refused.
type Account struct {
	Appended  Tally
	Delivered Tally
	Refused   Tally
	Pending   Tally
	// Forgotten are those of the refused that made way for others, by MaxRefusedBytes.
	Forgotten Tally
	// Kept are those of the refused that [Outbox.Refused] still has: all but the forgotten
	// and the cleared.
	Kept         Tally
	Bytes        int64 // that the files take
	RefusedBytes int64 // of those, the refused batches
	// CutBytes were found unreadable at the end of the log when it was opened: a
	// write that a crash cut short, and nobody was told had succeeded. What isn't
	// plainly that is kept in a file named cut-….
	CutBytes int64
}

// Account takes the account.
func (o *Outbox) Account() Account {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := Account{
		Appended: Tally{Batches: o.next - 1, Visitors: o.visitors},
		Refused:  o.refused.tally, Pending: o.pending,
		Forgotten: o.refused.forgotten, Kept: o.refused.kept,
		Bytes: o.bytes + o.refused.size, RefusedBytes: o.refused.size, CutBytes: o.cut,
	}
	a.Delivered.Batches = a.Appended.Batches - a.Refused.Batches - a.Pending.Batches
	a.Delivered.Visitors = a.Appended.Visitors - a.Refused.Visitors - a.Pending.Visitors
	return a
}

func (o *Outbox) active() *segment { return o.segments[len(o.segments)-1] }

// segmentOf is the segment of a batch that isn't settled.
func (o *Outbox) segmentOf(seq uint64) *segment {
	after := sort.Search(len(o.segments), func(i int) bool { return o.segments[i].first > seq })
	return o.segments[after-1]
}

func (o *Outbox) entryOf(seq uint64) *entry {
	s := o.segmentOf(seq)
	return &s.entries[seq-s.first]
}

func (o *Outbox) usable() error {
	if o.isClosed {
		return fmt.Errorf("outbox: %w", ErrClosed)
	}
	return o.broken
}

// breakDown ends all writing: after a failed fsync nobody knows what is on disk.
func (o *Outbox) breakDown(err error) error {
	if o.broken == nil {
		o.broken = fmt.Errorf("outbox can't be written any more: %w", err)
		o.free() // whoever waits for room would wait in vain
	}
	return o.broken
}

// free wakes those who wait for a change.
func (o *Outbox) free() {
	if o.waiters > 0 {
		close(o.changed)
		o.changed = make(chan struct{})
	}
}

// await waits for a change. It is called, and returns, with mu held.
func (o *Outbox) await(ctx context.Context) error {
	changed := o.changed
	o.waiters++
	o.mu.Unlock()
	var err error
	select {
	case <-changed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	o.mu.Lock()
	o.waiters--
	return err
}

// Wait returns nil when nothing is pending, or the cause of ctx's end.
func (o *Outbox) Wait(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.pending.Batches > 0 {
		if o.isClosed {
			return fmt.Errorf("wait for outbox: %w", ErrClosed)
		}
		if err := o.await(ctx); err != nil {
			return fmt.Errorf("wait for outbox: %w", err)
		}
	}
	return nil
}

// Close ends Run, waits for it, forces everything to disk and gives the folder
// free. What is pending stays there for the next one to open it. Closing twice
// is fine.
func (o *Outbox) Close() error {
	o.mu.Lock()
	if o.stop != nil {
		stop, stopped := o.stop, o.stopped
		o.mu.Unlock()
		stop()
		<-stopped
		o.mu.Lock()
	}
	if o.isClosed {
		o.mu.Unlock()
		return nil
	}
	o.isClosed = true
	o.free()
	o.mu.Unlock()
	// An append that is being synced gets its turn before the files are closed.
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	var faults []error
	if o.broken == nil {
		faults = append(faults, o.writeSettled(), o.active().file.Sync())
		if errors.Join(faults...) == nil {
			o.synced = o.written
		}
	}
	for _, s := range o.segments {
		faults = append(faults, s.file.Close())
	}
	faults = append(faults, o.refused.file.Close(), o.lock.Close())
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("close outbox: %w", err)
	}
	return nil
}
