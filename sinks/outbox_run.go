package sinks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// lastTry is granted to a batch that is too old before it has been tried: one
// attempt with the default timeout and its quick retries.
const lastTry = 15 * time.Second

// ErrTooOld is the cause of the end of a delivery's context when the batch has reached
// MaxAge: what isn't delivered then is refused.
var ErrTooOld = errors.New("too old")

// Run delivers what is in the outbox and what is appended meanwhile, until ctx
// ends, and returns its cause. It waits for the deliveries it has begun.
//
// deliver is [Poster.DeliverDurably] or behaves like it: it returns an error only
// when its context has ended; any other error ends Run and is returned. It is
// called concurrently. A batch it returned an error for stays pending.
func (o *Outbox) Run(ctx context.Context, deliver func(context.Context, Batch) (Result, error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	o.mu.Lock()
	if err := o.usable(); err != nil {
		o.mu.Unlock()
		return err
	}
	if o.stop != nil {
		o.mu.Unlock()
		panic("BUG: Outbox.Run called while it runs")
	}
	o.stop, o.stopped = func() { stop(fmt.Errorf("outbox: %w", ErrClosed)) }, make(chan struct{})
	for _, l := range o.lanes {
		l.cursor = 0
	}
	o.mu.Unlock()

	var deliveries sync.WaitGroup
	ticker := time.NewTicker(o.o.SyncEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		for _, seq := range o.begin() {
			deliveries.Go(func() {
				if err := o.deliver(ctx, seq, deliver); err != nil {
					stop(err)
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-ticker.C:
			if err := o.syncInterval(); err != nil {
				stop(err)
			}
		}
	}
	deliveries.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop = nil
	close(o.stopped)
	return context.Cause(ctx)
}

// syncInterval does what SyncInterval promises when nobody appends.
func (o *Outbox) syncInterval() error {
	o.mu.Lock()
	position, isSynced := o.written, o.synced >= o.written
	o.mu.Unlock()
	if isSynced {
		return nil
	}
	return o.syncTo(position)
}

// begin takes the batches whose turn it is.
func (o *Outbox) begin() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	var seqs []uint64
	for index, l := range o.lanes {
		for l.inFlight < o.o.Concurrency {
			seq, ok := o.nextOf(uint16(index))
			if !ok {
				break
			}
			o.entryOf(seq).state = stateInFlight
			l.inFlight++
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// nextOf is the next batch of a lane to begin.
func (o *Outbox) nextOf(index uint16) (seq uint64, ok bool) {
	l := o.lanes[index]
	l.cursor = max(l.cursor, o.segments[0].first)
	for _, s := range o.segments {
		for l.cursor < s.first+uint64(len(s.entries)) {
			seq := l.cursor
			l.cursor++
			if e := &s.entries[seq-s.first]; e.lane == index && e.state == statePending {
				return seq, true
			}
		}
	}
	return 0, false
}

// deliver delivers one batch. An error is one to end Run with.
func (o *Outbox) deliver(ctx context.Context, seq uint64, deliver func(context.Context, Batch) (Result, error)) error {
	o.mu.Lock()
	s, e := o.segmentOf(seq), *o.entryOf(seq)
	o.mu.Unlock()
	r, err := s.read(e) // the segment stays while the batch isn't settled
	if err != nil {
		o.putBack(seq)
		return err
	}
	attempt := ctx
	if o.o.MaxAge > 0 {
		until := r.at.Add(o.o.MaxAge)
		if soonest := time.Now().Add(lastTry); until.Before(soonest) {
			until = soonest
		}
		var cancel context.CancelFunc
		attempt, cancel = context.WithDeadlineCause(ctx, until, ErrTooOld)
		defer cancel()
	}
	result, err := deliver(attempt, r.batch)
	if err != nil && ctx.Err() == nil && attempt.Err() != nil {
		if len(result.Unsent) == 0 {
			result = Result{Unsent: []Batch{r.batch}}
		}
		for _, b := range result.Unsent {
			reason := refusalOf(b, err)
			reason.Reason = fmt.Sprintf("not delivered within %v: %v", o.o.MaxAge, err)
			result.Refused = append(result.Refused, reason)
		}
		err = nil
	}
	if err != nil {
		o.putBack(seq)
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for {
		err := o.settle(seq, &r, &result)
		o.tellForgotten()
		if err == nil {
			return nil
		}
		// The disk has no room for what was refused: it must not be forgotten.
		if sleep(ctx, time.Second) != nil {
			o.putBack(seq)
			return fmt.Errorf("settle batch %d: %w", seq, err)
		}
	}
}

// putBack makes a batch pending again for the next Run.
func (o *Outbox) putBack(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.entryOf(seq)
	e.state = statePending
	o.lanes[e.lane].inFlight--
}

// settle writes down what became of a batch.
func (o *Outbox) settle(seq uint64, r *record, result *Result) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(result.Refused) > 0 {
		if err := o.keepRefused(refusedBatchOf(seq, r, result)); err != nil {
			return err
		}
	}
	s, e := o.segmentOf(seq), o.entryOf(seq)
	e.state = stateSettled
	s.unsolved--
	o.pending.remove(int(e.visitors))
	o.lanes[e.lane].inFlight--
	o.unwritten = append(o.unwritten, seq)
	if o.broken == nil {
		// If the disk is full it is told later. Until then a crash means that the
		// batch is delivered again, which its uuids make recognisable.
		_ = o.writeSettled()
	}
	o.reclaim()
	o.free()
	o.signal()
	return nil
}

// writeSettled writes to the log which batches are settled. It isn't forced to
// disk: the next append, the next interval or Close does that.
func (o *Outbox) writeSettled() error {
	records := make([]byte, len(o.unwritten)*settledRecord)
	for i, seq := range o.unwritten {
		number(records[i*settledRecord:(i+1)*settledRecord], kindSettled, seq)
	}
	if err := o.write(records); err != nil {
		return err
	}
	o.unwritten = o.unwritten[:0]
	return nil
}

func refusedBatchOf(seq uint64, r *record, result *Result) *RefusedBatch {
	// Who appended it may have counted otherwise than splitting did.
	refused := min(visitorsOf(result.Refused), r.batch.Visitors)
	b := &RefusedBatch{
		Seq: seq, ID: r.batch.ID, Time: time.Now().UTC().Truncate(time.Millisecond),
		Endpoint: r.batch.Endpoint, Delivered: r.batch.Visitors - refused, Refused: refused,
	}
	for i := range result.Refused {
		part := &result.Refused[i]
		b.Parts = append(b.Parts, RefusedPart{
			Visitors: part.Batch.Visitors, Status: part.Status, Reason: part.Reason,
			Answer: part.Answer, Body: part.Batch.Body,
		})
	}
	return b
}
