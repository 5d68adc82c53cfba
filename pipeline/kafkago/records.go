package kafkago

import (
	"bytes"
	"io"
	"sync"

	"github.com/segmentio/kafka-go"

	"sortition/pipeline"
)

// outputReader shows some outputs to kafka-go's encoder, one at a time and
// without copying keys or values. It serves one attempt.
//
// The encoder runs on a goroutine of the transport, which a cancelled request
// does not stop. So that nobody reads the outputs once their owner has them back,
// whoever made the reader calls release before it returns.
type outputReader struct {
	outputs []pipeline.Output
	indexes []int32 // which of outputs, in order
	next    int

	mu       sync.Mutex // guards the two fields below
	started  bool
	released bool
	finished chan struct{} // closed when the last record has been encoded

	record  kafka.Record
	key     byteReader
	value   byteReader
	headers []kafka.Header
}

func newOutputReader(outputs []pipeline.Output, indexes []int32) *outputReader {
	return &outputReader{outputs: outputs, indexes: indexes, finished: make(chan struct{})}
}

// release makes sure that the outputs are not read any more. Encoding that has
// begun is waited for: it only fills memory, and takes milliseconds.
func (r *outputReader) release() {
	r.mu.Lock()
	r.released = true
	started := r.started
	r.mu.Unlock()
	if started {
		<-r.finished
	}
}

func (r *outputReader) ReadRecord() (*kafka.Record, error) {
	if r.next == 0 {
		r.mu.Lock()
		released := r.released
		r.started = !released
		r.mu.Unlock()
		if released {
			return nil, io.ErrClosedPipe
		}
	}
	if r.next == len(r.indexes) {
		close(r.finished)
		return nil, io.EOF
	}
	o := &r.outputs[r.indexes[r.next]]
	r.next++
	r.record = kafka.Record{Time: o.Time}
	// An interface holding a nil *byteReader would not be nil: the record would
	// get an empty key instead of none.
	if o.Key != nil {
		r.key.Reset(o.Key)
		r.record.Key = &r.key
	}
	if o.Value != nil {
		r.value.Reset(o.Value)
		r.record.Value = &r.value
	}
	if len(o.Headers) > 0 {
		r.headers = r.headers[:0]
		for _, h := range o.Headers {
			r.headers = append(r.headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		r.record.Headers = r.headers
	}
	return &r.record, nil
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
