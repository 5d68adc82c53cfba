package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// The loops are what somebody would write who has nothing but kafka-go's Client
// and wants it fast: all partitions side by side, the next fetch under way while
// the last one is being written, requests as large as a broker takes by default.
// They do not commit, so they are a little less than half of a consumer.
const (
	loopFetchBytes = 1 << 20
	loopFetchAhead = 2
	// loopRequestBytes bounds the uncompressed records of a produce request: with a
	// margin for what surrounds them it is the default message.max.bytes.
	loopRequestBytes = 1_000_000
)

// loop reads each partition of a topic up to ends and writes to the partition of
// the same number.
type loop struct {
	client   *kafka.Client
	from, to string
	ends     []int64
	codec    kafka.Compression
	ready    []readyRecord // nil: copy
	done     atomic.Int64  // activities whose record is stored
}

func (l *loop) run(ctx context.Context) error {
	partitions, ctx := errgroup.WithContext(ctx)
	for id, end := range l.ends {
		// Capacity: what may be fetched ahead.
		chunks := make(chan []kafka.Record, loopFetchAhead)
		partitions.Go(func() error {
			defer close(chunks)
			return l.fetch(ctx, id, end, chunks)
		})
		partitions.Go(func() error { return l.write(ctx, id, chunks) })
	}
	return partitions.Wait()
}

// fetch hands on the records of one partition, an answer at a time.
func (l *loop) fetch(ctx context.Context, partition int, end int64, chunks chan<- []kafka.Record) error {
	size := 0
	for at := int64(0); at < end; {
		res, err := l.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: l.from, Partition: partition, Offset: at, MinBytes: 1, MaxBytes: loopFetchBytes, MaxWait: 500 * time.Millisecond,
		})
		if err == nil {
			err = res.Error
		}
		if err != nil {
			return fmt.Errorf("fetch %s/%d at %d: %w", l.from, partition, at, err)
		}
		records := make([]kafka.Record, 0, size)
		for {
			r, err := res.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("fetch %s/%d at %d: %w", l.from, partition, at, err)
			}
			if r.Offset < at || r.Offset >= end {
				closeRecord(r)
				continue
			}
			at = r.Offset + 1
			records = append(records, *r)
		}
		size = len(records)
		select {
		case chunks <- records:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func closeRecord(r *kafka.Record) {
	for _, b := range []kafka.Bytes{r.Key, r.Value} {
		if b != nil {
			_ = b.Close() // gives memory back; there is nothing to fail
		}
	}
}

// write stores a record for each one that comes.
func (l *loop) write(ctx context.Context, partition int, chunks <-chan []kafka.Record) error {
	turn := partition
	for records := range chunks {
		for len(records) > 0 {
			var reader kafka.RecordReader
			var n int
			if l.ready == nil {
				n = fitting(len(records), func(i int) int { return records[i].Key.Len() + records[i].Value.Len() })
				reader = &copyReader{records: records[:n]} // the encoder closes them
			} else {
				n = fitting(len(records), func(i int) int { return l.ready[(turn+i)%len(l.ready)].size() })
				for i := range n {
					closeRecord(&records[i])
				}
				reader = &readyReader{ready: l.ready, next: turn, end: turn + n}
				turn += n
			}
			res, err := l.client.Produce(ctx, &kafka.ProduceRequest{
				Topic: l.to, Partition: partition, RequiredAcks: kafka.RequireAll, Compression: l.codec, Records: reader,
			})
			if err == nil {
				err = res.Error
			}
			if err != nil {
				return fmt.Errorf("produce to %s/%d: %w", l.to, partition, err)
			}
			l.done.Add(int64(n))
			records = records[n:]
		}
	}
	return nil
}

// fitting is how many of n records fit into a request.
func fitting(n int, size func(i int) int) int {
	const overhead = 24 // of a record without headers
	total := 0
	for i := range n {
		if total += size(i) + overhead; total > loopRequestBytes && i > 0 {
			return i
		}
	}
	return n
}

func (r *readyRecord) size() int {
	n := len(r.key) + len(r.value)
	for _, h := range r.headers {
		n += len(h.Key) + len(h.Value) + 4
	}
	return n
}

// copyReader shows fetched records to the encoder.
type copyReader struct{ records []kafka.Record }

func (r *copyReader) ReadRecord() (*kafka.Record, error) {
	if len(r.records) == 0 {
		return nil, io.EOF
	}
	next := &r.records[0]
	r.records = r.records[1:]
	return next, nil
}

// readyReader shows ready-made records to the encoder, by turns.
type readyReader struct {
	ready      []readyRecord
	next, end  int
	record     kafka.Record
	key, value bytesReader
}

// bytesReader is a kafka.Bytes that can be used again.
type bytesReader struct{ bytes.Reader }

func (*bytesReader) Close() error { return nil }

func (r *readyReader) ReadRecord() (*kafka.Record, error) {
	if r.next == r.end {
		return nil, io.EOF
	}
	from := &r.ready[r.next%len(r.ready)]
	r.next++
	r.key.Reset(from.key)
	r.value.Reset(from.value)
	r.record = kafka.Record{Key: &r.key, Value: &r.value, Headers: from.headers}
	return &r.record, nil
}
