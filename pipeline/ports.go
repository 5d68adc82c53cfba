package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/schemas"
)

// Record is one input record of a partition.
//
// Key and Value are nil when the record has none; an empty, non-nil slice is an
// empty value. The slices belong to the transport and are read-only.
type Record struct {
	Key     []byte
	Value   []byte
	Headers []Header
	Offset  int64     // position in the partition
	Time    time.Time // the record's own time, UTC, millisecond precision
}

// Header is one header of a record. Kafka allows a key to occur several times,
// and keeps the order.
type Header = schemas.Header

// Batch is a micro-batch: consecutive records of one partition in offset order.
// Offsets may have gaps (compaction, transaction markers, aborted transactions),
// but never go backwards.
//
// A Batch and all it refers to stay valid until its message is acked or nacked;
// whoever keeps a record longer copies it.
type Batch struct {
	Topic     string
	Partition int32 // -1: the source has no partitions
	// ID names a batch whose source has no offsets (see [BatchOf]). It is empty
	// when Topic, Partition and the records' offsets name every record.
	ID      string
	Records []Record
}

// Output is one record to store. Time zero means "when it is stored".
//
// Outputs with the same Topic and the same non-nil Key keep their order; a nil
// Key leaves the choice of the partition to the producer.
type Output struct {
	Topic   string
	Key     []byte
	Value   []byte
	Headers []Header
	Time    time.Time
}

// Producer stores outputs durably.
//
// Produce returns nil only when every output is stored as safely as the
// transport can (Kafka: acks=all). Otherwise it returns a [*ProduceError]: the
// outputs it does not name are stored; those it names may or may not be, so
// repeating them may make duplicates and dropping them may lose them. Produce
// neither changes outputs nor keeps them after it has returned. Safe for
// concurrent use.
type Producer interface {
	Produce(ctx context.Context, outputs []Output) error
}

// ProduceError names the outputs of a Produce call that are not known to be
// stored. Outputs it does not name are stored.
type ProduceError struct {
	// Failed is in ascending order of Index and never empty.
	Failed []FailedOutput
}

// FailedOutput is one output that is not known to be stored.
type FailedOutput struct {
	// Index is the output's place in the slice given to Produce.
	Index int
	// Permanent: this very output can never be stored (it is too large, or the
	// broker finds it invalid), so sending it again is useless. Otherwise the
	// transport failed, and the same output may be stored another time.
	Permanent bool
	// Err is the cause. It holds neither keys nor values.
	Err error
}

func (e *ProduceError) Error() string {
	permanent := 0
	for _, f := range e.Failed {
		if f.Permanent {
			permanent++
		}
	}
	return fmt.Sprintf("produce: %d outputs not stored (%d of them permanently refused): %v",
		len(e.Failed), permanent, e.Failed[0].Err)
}

// Unwrap returns the distinct causes, in order of appearance, so that errors.Is
// finds for instance context.Canceled.
func (e *ProduceError) Unwrap() []error {
	var causes []error
	var last error
	for _, f := range e.Failed {
		if f.Err != last { //nolint:errorlint // identity, to list a shared cause once
			causes = append(causes, f.Err)
			last = f.Err
		}
	}
	return causes
}

// Permanent reports whether every failed output was refused for good, so that
// the call need not be repeated once these are dead letters.
func (e *ProduceError) Permanent() bool {
	for _, f := range e.Failed {
		if !f.Permanent {
			return false
		}
	}
	return true
}

type batchKey struct{}

// WithBatch returns a context that carries b. A transport puts it on a
// Watermill message, which so becomes a micro-batch.
func WithBatch(ctx context.Context, b *Batch) context.Context {
	return context.WithValue(ctx, batchKey{}, b)
}

// BatchOf returns the micro-batch msg carries, and true.
//
// A plain message, from a Subscriber that knows nothing of batches, is a batch
// of one, and false: its payload is the value, its metadata the headers (in no
// particular order), its UUID the ID; there is no key, no time and no offset.
// It is never nil.
func BatchOf(msg *message.Message) (*Batch, bool) {
	if b, ok := msg.Context().Value(batchKey{}).(*Batch); ok && b != nil {
		return b, true
	}
	r := Record{Value: msg.Payload}
	for k, v := range msg.Metadata {
		r.Headers = append(r.Headers, Header{Key: k, Value: []byte(v)})
	}
	return &Batch{Partition: -1, ID: msg.UUID, Records: []Record{r}}, false
}
