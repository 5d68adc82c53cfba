package kafkago

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sortition/pipeline"
)

// call is one call of Produce.
type call struct {
	ctx     context.Context // of the call, and as long-lived
	outputs []pipeline.Output
	failed  failures
}

// piece is what a call has for one partition and one request.
type piece struct {
	call    *call
	indexes []int32
	size    int
	settled chan struct{} // closed when its batch is through

	// Guarded by the queue's mu; err only until settled is closed.
	batch *batch
	start int   // its place among the records of the batch
	gone  bool  // its call has left: its outputs must not be read any more
	err   error // why what is not dealt with is not
}

// queue brings together what calls have for one partition. A piece goes out at
// once when no request to the partition is under way. Otherwise it waits for that
// one to be answered, at most Linger, and what comes meanwhile goes with it, as
// long as it fits into a request. So a lone caller never waits, and many of them
// share requests.
//
// The order within a call is kept because a call has one piece of a partition in
// the queue at a time.
type queue struct {
	producer  *Producer
	link      *link
	topic     string
	partition int

	mu       sync.Mutex // guards the fields below, and those of pieces and batches that say so
	underway int        // requests
	open     *batch     // takes pieces, not sent yet
}

// batch is what one request carries: pieces of one or several calls.
type batch struct {
	queue  *queue
	ctx    context.Context // ends when nobody waits for the batch any more
	cancel context.CancelFunc
	pieces []*piece
	size   int // of all, uncompressed
	count  int // records
	linger *time.Timer

	// Guarded by the queue's mu.
	waiting  int // calls that have not left
	done     int // leading records that are stored, refused for good, or nobody's any more
	failure  error
	encoding *attempt // the latest
}

// put enters pc, which its caller must wait for.
func (q *queue) put(pc *piece) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.open; b != nil {
		if b.size+pc.size <= q.producer.cfg.MaxRequestBytes {
			b.add(pc)
			return
		}
		q.launch(b)
	}
	b := &batch{queue: q}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.add(pc)
	if q.underway == 0 || q.producer.cfg.Linger <= 0 {
		q.launch(b)
		return
	}
	q.open = b
	b.linger = time.AfterFunc(q.producer.cfg.Linger, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.open == b {
			q.launch(b)
		}
	})
}

// add is called with the queue's mu held.
func (b *batch) add(pc *piece) {
	pc.batch, pc.start = b, b.count
	b.pieces = append(b.pieces, pc)
	b.size += pc.size
	b.count += len(pc.indexes)
	b.waiting++
}

// launch sends b. It is called with mu held.
func (q *queue) launch(b *batch) {
	if q.open == b {
		q.open = nil
	}
	if b.linger != nil {
		b.linger.Stop()
	}
	q.underway++
	q.producer.running.Go(func() {
		b.send()
		q.mu.Lock()
		defer q.mu.Unlock()
		b.settle()
		q.underway--
		if q.open != nil && q.underway == 0 {
			q.launch(q.open)
		}
	})
}

// settle tells the callers. It is called with the queue's mu held.
func (b *batch) settle() {
	b.cancel()
	for _, pc := range b.pieces {
		if pc.dealt() < len(pc.indexes) {
			pc.err = b.failure
		}
		b.queue.producer.budget.Release(b.queue.producer.weight(pc.size))
		close(pc.settled)
	}
}

// dealt returns how many leading outputs of the piece are dealt with. It is called
// with the queue's mu held, or after settled.
func (pc *piece) dealt() int {
	return min(max(0, pc.batch.done-pc.start), len(pc.indexes))
}

// wait waits until pc is dealt with or its call's context is done. When it returns,
// nobody reads the outputs any more; it returns how many leading ones have been dealt
// with, and why not the others.
func (q *queue) wait(pc *piece) (int, error) {
	select {
	case <-pc.settled:
		return pc.dealt(), pc.err
	case <-pc.call.ctx.Done():
	}
	q.mu.Lock()
	b := pc.batch
	pc.gone = true
	b.waiting--
	if b.waiting == 0 {
		b.cancel()
		if q.open == b {
			q.launch(b) // which finds nothing to do
		}
	}
	encoding := b.encoding
	dealt := pc.dealt()
	err := pc.call.ctx.Err()
	if b.failure != nil {
		err = fmt.Errorf("%w (last failure: %w)", err, b.failure)
	}
	q.mu.Unlock()
	if encoding != nil {
		encoding.await()
	}
	if dealt == len(pc.indexes) {
		return dealt, nil
	}
	return dealt, fmt.Errorf("produce to %s/%d: %w", q.topic, q.partition, err)
}
