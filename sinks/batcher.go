package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A Visitor is one user event, finished: an impression or a conversion as an
// element of "visitors". Source: event-batching.md EB-12, EB-13.
type Visitor struct {
	Endpoint string
	// Head is the event batch up to its visitors, as
	// decision.Project.AppendBatchHead renders it: project, revision, client, ….
	// Visitors of different heads never share a batch.
	Head []byte
	Body []byte // the visitor object
	ID   string // the event's uuid
}

// WhenFull says what happens to a caller for whom there is no room.
type WhenFull uint8

// The choices.
const (
	Block WhenFull = iota // wait until there is room, or the context ends
	Fail                  // return ErrFull at once
)

// BatcherOptions configure a [Batcher]. Zero values stand for the defaults.
type BatcherOptions struct {
	MaxVisitors int           // of a batch; default 10
	MaxBytes    int           // of a batch's body, unless one visitor alone is larger; default 1 MiB
	MaxAge      time.Duration // from a batch's first visitor until it is closed; default 30 s
	// Capacity bounds the visitors held, those being dispatched included, and
	// CapacityBytes their bytes. Defaults 1000 and 64 MiB.
	Capacity      int
	CapacityBytes int
	WhenFull      WhenFull

	// Dispatch takes a batch away, for instance by [Outbox.Append] or
	// [Poster.Deliver]. Batches are dispatched one at a time, in order. It should
	// return soon when its context ends. Required.
	Dispatch func(context.Context, Batch) error
	// OnBatch is called once for every batch, before its dispatch: the LOG_EVENT
	// notification. It must not change the batch. Optional.
	OnBatch func(Batch)
	// OnFailure is handed the batches Dispatch returned an error for, after which
	// the batcher forgets them. Required: nothing is dropped silently.
	OnFailure func(Batch, error)
}

func (o BatcherOptions) withDefaults() BatcherOptions {
	setDefault(&o.MaxVisitors, 10)
	setDefault(&o.MaxBytes, 1<<20)
	setDefault(&o.MaxAge, 30*time.Second)
	setDefault(&o.Capacity, 1000)
	setDefault(&o.CapacityBytes, 64<<20)
	return o
}

func setDefault[T int | int64 | time.Duration](value *T, standard T) {
	if *value == 0 {
		*value = standard
	}
}

// Validate reports all faults. Source: event-batching.md section 2.
func (o BatcherOptions) Validate() error {
	o = o.withDefaults()
	var faults []error
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, errors.New(text))
		}
	}
	fault(o.MaxVisitors < 0, "the batch size must be positive")
	fault(o.MaxBytes < 0, "the byte limit of a batch must be positive")
	fault(o.MaxAge < 0, "the flush interval must be positive")
	fault(o.Capacity < o.MaxVisitors, "the capacity must be at least the batch size")
	fault(o.CapacityBytes < o.MaxBytes, "the capacity in bytes must be at least the byte limit of a batch")
	fault(o.Dispatch == nil, "there must be a dispatcher")
	fault(o.OnFailure == nil, "somebody must take the batches that can't be dispatched")
	return errors.Join(faults...)
}

// A Batcher collects visitors into batches in memory and dispatches them in
// order: when a batch is full, when the next visitor needs another head or
// endpoint, when it is old enough, on Flush and on Close. Safe for concurrent
// use; visitors of one goroutine keep their order.
//
// Source: event-batching.md EB-3, EB-8, EB-9, EB-11 to EB-17, EB-P1, EB-P7, EB-P9.
type Batcher struct {
	o    BatcherOptions
	wake chan struct{} // capacity 1: there is something to look at; a second signal would say the same
	done chan struct{} // closed when Run returns

	mu        sync.Mutex // guards all below
	head      []byte     // of the batch being filled
	filling   Batch      // Visitors 0: none
	deadline  time.Time  // of the batch being filled
	queue     []Batch    // closed batches, oldest first
	inFlight  *Batch
	held      int // visitors
	heldBytes int
	freed     chan struct{} // closed and made anew when room was made; nobody ever sends
	isRunning bool
	isClosing bool
	cut       context.CancelFunc // ends the dispatch under way; nil unless running
}

// NewBatcher makes a batcher. Nothing is dispatched before Run.
func NewBatcher(o BatcherOptions) (*Batcher, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("configure event batches: %w", err)
	}
	return &Batcher{
		o: o.withDefaults(), wake: make(chan struct{}, 1),
		done: make(chan struct{}), freed: make(chan struct{}),
	}, nil
}

// Add takes a visitor, whose bytes are copied. If there is no room it waits or
// returns [ErrFull], as configured; after closing has begun it returns
// [ErrClosed]. A visitor it returned an error for is not held.
func (b *Batcher) Add(ctx context.Context, v Visitor) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.isClosing {
			return fmt.Errorf("add event: batcher: %w", ErrClosed)
		}
		if b.hasRoom(len(v.Body)) {
			break
		}
		// What is being filled would only make room when it is old.
		b.finish()
		if b.o.WhenFull == Fail {
			return fmt.Errorf("add event: batcher: %w", ErrFull)
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			return fmt.Errorf("add event: %w", context.Cause(ctx))
		}
	}
	b.append(&v)
	return nil
}

// hasRoom always finds room for a visitor that is alone.
func (b *Batcher) hasRoom(size int) bool {
	return b.held == 0 || b.held < b.o.Capacity && b.heldBytes+size <= b.o.CapacityBytes
}

const batchTail = `]}`

func (b *Batcher) append(v *Visitor) {
	if f := &b.filling; f.Visitors > 0 {
		isOld := !time.Now().Before(b.deadline)
		isFull := len(f.Body)+1+len(v.Body)+len(batchTail) > b.o.MaxBytes
		if isOld || isFull || f.Endpoint != v.Endpoint || !bytes.Equal(b.head, v.Head) {
			b.finish()
		}
	}
	f := &b.filling
	if f.Visitors == 0 {
		b.head = append(b.head[:0], v.Head...)
		f.Endpoint, f.ID = v.Endpoint, strings.Clone(v.ID)
		f.Body = make([]byte, 0, min(len(v.Head)+(len(v.Body)+1)*min(b.o.MaxVisitors, 16), b.o.MaxBytes)+len(batchTail))
		f.Body = append(f.Body, v.Head...)
		b.deadline = time.Now().Add(b.o.MaxAge)
		b.signal() // there is a deadline now
	} else {
		f.Body = append(f.Body, ',')
	}
	f.Body = append(f.Body, v.Body...)
	f.Visitors++
	b.held++
	b.heldBytes += len(v.Body)
	if f.Visitors >= b.o.MaxVisitors {
		b.finish()
	}
}

// finish closes the batch being filled, if there is one.
func (b *Batcher) finish() {
	if b.filling.Visitors == 0 {
		return
	}
	// Counted by its visitors while it was open, and by its whole from now on.
	inner := len(b.filling.Body) - len(b.head) - (b.filling.Visitors - 1)
	b.filling.Body = append(b.filling.Body, batchTail...)
	b.heldBytes += len(b.filling.Body) - inner
	b.queue = append(b.queue, b.filling)
	b.filling = Batch{}
	b.signal()
}

func (b *Batcher) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Flush closes the batch being filled and returns at once. Source: event-batching.md EB-23.
func (b *Batcher) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish()
}

// Held counts the visitors held now.
func (b *Batcher) Held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Run dispatches until the batcher is closed and empty, or Close has given up, and
// returns nil then; or until ctx ends, and returns its cause, after which the batcher takes nothing
// any more and Close reports what remains. It is to be called once.
func (b *Batcher) Run(ctx context.Context) error {
	whole := ctx
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	b.mu.Lock()
	if b.isRunning {
		b.mu.Unlock()
		panic("BUG: Batcher.Run called twice")
	}
	b.isRunning, b.cut = true, cut
	b.mu.Unlock()
	defer close(b.done)
	timer := time.NewTimer(b.o.MaxAge)
	defer timer.Stop()
	for {
		batch, wait, isOver := b.next()
		switch {
		case isOver:
			return nil
		case batch != nil:
			b.dispatch(ctx, *batch)
		default:
			timer.Reset(wait)
			select {
			case <-b.wake:
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			b.mu.Lock()
			b.isClosing = true
			b.free()
			b.mu.Unlock()
			return context.Cause(whole) // nil if it was Close that cut it short
		}
	}
}

// next takes the oldest batch, or says how long to wait for one.
func (b *Batcher) next() (batch *Batch, wait time.Duration, isOver bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = b.o.MaxAge
	if b.filling.Visitors > 0 {
		if wait = time.Until(b.deadline); wait <= 0 {
			b.finish()
		}
	}
	if len(b.queue) == 0 {
		return nil, wait, b.isClosing
	}
	first := b.queue[0]
	b.queue[0] = Batch{}
	b.queue = b.queue[1:]
	b.inFlight = &first
	return &first, 0, false
}

func (b *Batcher) dispatch(ctx context.Context, batch Batch) {
	if b.o.OnBatch != nil {
		b.o.OnBatch(batch)
	}
	err := b.o.Dispatch(ctx, batch)
	b.mu.Lock()
	if b.inFlight == nil { // Close has reported it meanwhile
		b.mu.Unlock()
		return
	}
	b.inFlight = nil
	if err != nil && ctx.Err() != nil {
		b.queue = append([]Batch{batch}, b.queue...)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	if err != nil {
		b.o.OnFailure(batch, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= batch.Visitors
	b.heldBytes -= len(batch.Body)
	b.free()
}

// free wakes those who wait for room.
func (b *Batcher) free() {
	close(b.freed)
	b.freed = make(chan struct{})
}

// Close rejects new visitors from now on and waits until all that are held are
// dispatched. If ctx ends before, the dispatch under way is cut short and Close
// returns at once what remains, oldest first, and an error; a batch that was
// under way is among them, though it may have arrived. What was once reported to
// remain does not remain for another call.
//
// Source: event-batching.md EB-P7.
func (b *Batcher) Close(ctx context.Context) (remains []Batch, err error) {
	b.mu.Lock()
	b.isClosing = true
	b.finish()
	b.free()
	b.signal()
	held := b.held
	b.mu.Unlock()
	if held == 0 {
		return nil, nil
	}
	cause := errors.New("stopped")
	select {
	case <-b.done:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight != nil {
		remains = append(remains, *b.inFlight)
	}
	remains = append(remains, b.queue...)
	b.inFlight, b.queue = nil, nil
	visitors := 0
	for i := range remains {
		visitors += remains[i].Visitors
	}
	b.held -= visitors
	if b.cut != nil {
		b.cut()
	}
	if visitors > 0 {
		err = fmt.Errorf("close event batcher: %d events not dispatched: %w", visitors, cause)
	}
	return remains, err
}
