package kafkago

import (
	"bytes"
	"io"

	"github.com/segmentio/kafka-go"

	"sortition/pipeline"
)

// attempt shows a range of a batch's records to kafka-go's encoder, one at a time
// and without copying keys or values. Records whose call has left are passed over.
//
// The encoder runs on a goroutine of the transport, which a cancelled request does
// not stop. So that nobody reads outputs once their owner has them back, a call
// that leaves awaits an encoding that has begun, and whoever made the attempt
// releases it before the batch is settled. Encoding only fills memory, and takes
// milliseconds.
type attempt struct {
	batch    *batch
	from, to int // records of the batch

	// Guarded by the queue's mu.
	started  bool
	released bool

	finished chan struct{} // closed when the last record has been encoded

	// Of the encoder.
	shares  []attemptShare
	read    int // records handed out
	record  kafka.Record
	key     byteReader
	value   byteReader
	headers []kafka.Header
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

// ReadRecord implements kafka.RecordReader.
func (a *attempt) ReadRecord() (*kafka.Record, error) {
	if a.read == 0 && !a.begin() {
		return nil, io.ErrClosedPipe
	}
	if len(a.shares) == 0 {
		close(a.finished)
		return nil, io.EOF
	}
	s := &a.shares[0]
	o := &s.outputs[s.indexes[0]]
	if s.indexes = s.indexes[1:]; len(s.indexes) == 0 {
		a.shares = a.shares[1:]
	}
	a.read++
	a.record = kafka.Record{Time: o.Time}
	// An interface holding a nil *byteReader would not be nil: the record would
	// get an empty key instead of none.
	if o.Key != nil {
		a.key.Reset(o.Key)
		a.record.Key = &a.key
	}
	if o.Value != nil {
		a.value.Reset(o.Value)
		a.record.Value = &a.value
	}
	if len(o.Headers) > 0 {
		a.headers = a.headers[:0]
		for _, h := range o.Headers {
			a.headers = append(a.headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		a.record.Headers = a.headers
	}
	return &a.record, nil
}

// byteReader is a reusable kafka.Bytes. Its WriterTo, from bytes.Reader, spares
// the encoder a copy buffer for each field.
type byteReader struct{ bytes.Reader }

func (*byteReader) Close() error { return nil }

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
