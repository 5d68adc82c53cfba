package kafkago

import (
	"io"

	"sortition/pipeline"
)

// attempt encodes a range of a batch's records. Records whose call has left are passed
// over.
//
// So that nobody reads outputs once their owner has them back, a call that leaves
// awaits an encoding that has begun, and whoever made the attempt releases it before
// the batch is settled. It only fills memory, and takes milliseconds.
type attempt struct {
	batch    *batch
	from, to int // records of the batch

	// Guarded by the queue's mu.
	started  bool
	released bool

	finished chan struct{} // closed when all outputs have been copied

	shares []attemptShare
}

// attemptShare is the part of an attempt that comes from one call.
type attemptShare struct {
	outputs []pipeline.Output
	indexes []int32
}

// release makes sure that no outputs are read any more.
func (a *attempt) release() {
	a.batch.queue.mu.Lock()
	a.released = true
	a.batch.queue.mu.Unlock()
	a.await()
}

// await waits for an encoding that has begun.
func (a *attempt) await() {
	a.batch.queue.mu.Lock()
	started := a.started
	a.batch.queue.mu.Unlock()
	if started {
		<-a.finished
	}
}

// begin takes stock of whose records there are.
func (a *attempt) begin() bool {
	q := a.batch.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if a.released {
		return false
	}
	for _, pc := range a.batch.pieces {
		from, to := max(a.from-pc.start, 0), min(a.to-pc.start, len(pc.indexes))
		if from < to && !pc.gone {
			a.shares = append(a.shares, attemptShare{outputs: pc.call.outputs, indexes: pc.indexes[from:to]})
		}
	}
	a.started = len(a.shares) > 0
	return a.started
}

// encode copies the records into r. Without any it is an error: nobody waits for them
// any more.
func (a *attempt) encode(r *recordBatch) error {
	if !a.begin() {
		return io.ErrClosedPipe
	}
	defer close(a.finished)
	for _, s := range a.shares {
		for _, i := range s.indexes {
			r.add(&s.outputs[i])
		}
	}
	return nil
}

// recordOverhead bounds what a record adds to its key, value and headers on the
// wire: six variable-length integers and the attributes.
const recordOverhead = 36

// wireSize bounds the uncompressed size of o in a record batch.
func wireSize(o *pipeline.Output) int {
	n := recordOverhead + len(o.Key) + len(o.Value)
	for _, h := range o.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}
