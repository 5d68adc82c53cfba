package sinks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

var recordPool = sync.Pool{New: func() any { return new([]byte) }}

// largest buffer that goes back to the pool.
const maxPooled = 1 << 20

// Append brings a batch to the disk, by the outbox's sync policy, and returns the
// number it got: 1, 2, 3, …. If there is no room it waits or returns [ErrFull],
// as configured (ErrFull also if it is refused batches that hold the room and nothing
// makes them give way, since no waiting helps there); a batch that could never have room
// is [ErrTooLarge], an address nothing can be posted to [ErrEndpoint]. Other errors are the disk's (a full one
// is syscall.ENOSPC); the batch isn't stored then, except that after a failed
// fsync nobody knows, and the outbox takes nothing more until it is opened anew.
//
// Visitors 0 is counted from the body. The batch isn't kept.
func (o *Outbox) Append(ctx context.Context, b Batch) (seq uint64, err error) {
	position, seq, err := o.append(ctx, b)
	o.tellForgotten()
	if err == nil && position > 0 {
		err = o.syncTo(position)
	}
	if err != nil {
		return 0, fmt.Errorf("append to outbox: %w", err)
	}
	return seq, nil
}

// AppendAll is Append for several batches, which share one fsync. When it returns
// an error, the first n of them are stored.
func (o *Outbox) AppendAll(ctx context.Context, batches []Batch) (n int, err error) {
	var last uint64
	for _, b := range batches {
		position, _, failed := o.append(ctx, b)
		if err = failed; err != nil {
			break
		}
		last = max(last, position)
		n++
	}
	o.tellForgotten()
	if last > 0 {
		if unsynced := o.syncTo(last); unsynced != nil {
			n, err = 0, unsynced
		}
	}
	if err != nil {
		return n, fmt.Errorf("append to outbox: %w", err)
	}
	return n, nil
}

// append writes a batch and returns up to where the log must be synced; 0: nowhere.
func (o *Outbox) append(ctx context.Context, b Batch) (position, seq uint64, err error) {
	if err := CheckEndpoint(b.Endpoint); err != nil {
		return 0, 0, err
	}
	if len(b.Endpoint) > maxRecordField {
		return 0, 0, fmt.Errorf("%w: longer than 65535 bytes", ErrEndpoint)
	}
	b.ID = b.ID[:min(len(b.ID), maxRecordField)]
	if b.Visitors <= 0 {
		if b.Visitors, _ = CountVisitors(b.Body); b.Visitors == 0 {
			b.Visitors = 1 // whatever it is, it is one thing to deliver
		}
	}
	size := appendFixed + recordHeader + int64(len(b.Endpoint)+len(b.ID)+len(b.Body))
	if size+segmentHeader > min(o.o.MaxBytes, maxRecord) {
		return 0, 0, ErrTooLarge
	}
	pooled := recordPool.Get().(*[]byte) //nolint:errcheck // nothing else is put there
	buffer := appendAppend((*pooled)[:0], &b, time.Now())
	defer func() {
		if cap(buffer) <= maxPooled {
			*pooled = buffer
			recordPool.Put(pooled)
		}
	}()

	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.makeRoom(ctx, size); err != nil {
		return 0, 0, err
	}
	number(buffer, kindAppend, o.next)
	s := o.active()
	offset := s.size + recordHeader
	if err := s.add(o, &b, offset, int64(len(buffer)-recordHeader)); err != nil {
		return 0, 0, err
	}
	if err := o.write(buffer); err != nil {
		s.entries = s.entries[:len(s.entries)-1]
		return 0, 0, err
	}
	seq = o.next
	o.next++
	o.visitors += uint64(b.Visitors)
	o.pending.add(b.Visitors)
	s.unsolved++
	o.signal()
	if o.o.Sync == SyncInterval && time.Since(o.syncedAt) < o.o.SyncEvery {
		return 0, seq, nil
	}
	return o.written, seq, nil
}

func (o *Outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// makeRoom returns nil when the active segment may be written to.
func (o *Outbox) makeRoom(ctx context.Context, size int64) error {
	for {
		if err := o.usable(); err != nil {
			return err
		}
		if s := o.active(); len(s.entries) > 0 && s.size+size > o.segmentBytes() {
			if err := o.rotate(); err != nil {
				return err
			}
		}
		if o.bytes+o.refused.size+size <= o.o.MaxBytes {
			return nil
		}
		if isRenewed, err := o.renew(); err != nil {
			return err
		} else if isRenewed {
			continue
		}
		if keep := o.o.MaxBytes - size - segmentHeader; o.refused.size > keep {
			if isForgotten, err := o.forget(keep); err != nil {
				return err
			} else if isForgotten {
				continue
			}
			return fmt.Errorf("%w: refused batches take %d of %d bytes", ErrFull, o.refused.size, o.o.MaxBytes)
		}
		if o.o.WhenFull == Fail {
			return ErrFull
		}
		if err := o.await(ctx); err != nil {
			return err
		}
	}
}

func (o *Outbox) segmentBytes() int64 { return min(o.o.MaxBytes/8, maxSegmentBytes) }

// rotate begins a new segment, once the old one is on disk.
func (o *Outbox) rotate() error {
	if err := o.active().file.Sync(); err != nil {
		return o.breakDown(err)
	}
	o.synced, o.syncedAt = o.written, time.Now()
	if err := o.addSegment(); err != nil {
		return err
	}
	o.reclaim()
	return nil
}

// renew gives back the room of the active segment if all in it is settled.
func (o *Outbox) renew() (isRenewed bool, err error) {
	switch s := o.active(); {
	case s.unsolved > 0 || s.size == segmentHeader:
		return false, nil
	case len(s.entries) > 0:
		return true, o.rotate()
	case len(o.segments) > 1: // it says what is settled in those before it
		return false, nil
	default:
		if err := s.file.Truncate(segmentHeader); err != nil {
			return false, o.breakDown(err)
		}
		o.bytes -= s.size - segmentHeader
		s.size = segmentHeader
		return true, nil
	}
}

// reclaim removes the oldest segments as far as all in them is settled. The
// records in them that settle batches are about batches in them or before.
func (o *Outbox) reclaim() {
	for len(o.segments) > 1 && o.segments[0].unsolved == 0 {
		s := o.segments[0]
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return // its room is missed, nothing else; tried again the next time
		}
		_ = s.file.Close() // nobody will read it again
		o.bytes -= s.size
		o.segments[0] = nil
		o.segments = o.segments[1:]
	}
}

// write writes whole records to the active segment, or nothing.
func (o *Outbox) write(records []byte) error {
	s := o.active()
	if _, err := s.file.WriteAt(records, s.size); err != nil {
		if cut := s.file.Truncate(s.size); cut != nil {
			return o.breakDown(errors.Join(err, cut))
		}
		return err
	}
	s.size += int64(len(records))
	o.bytes += int64(len(records))
	o.written += uint64(len(records))
	return nil
}

// syncTo forces the log to disk up to a position. Those who come while it is
// being done for others find it done for them too, by the next one at the latest.
func (o *Outbox) syncTo(position uint64) error {
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	if o.synced >= position || o.broken != nil {
		defer o.mu.Unlock()
		if o.synced >= position {
			return nil
		}
		return o.broken
	}
	s, written := o.active(), o.written
	o.mu.Unlock()
	err := s.file.Sync()
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && !(errors.Is(err, os.ErrClosed) && o.active() != s) {
		return o.breakDown(err) // else: synced by rotate, all settled and removed meanwhile
	}
	o.synced, o.syncedAt = max(o.synced, written), time.Now()
	return nil
}
