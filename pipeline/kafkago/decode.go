package kafkago

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"sortition/pipeline"
)

// fetched is what one fetch brought for one partition.
type fetched struct {
	records []pipeline.Record
	next    int64 // where to fetch next
	end     int64 // where the log ends, -1: not told
	bytes   int   // memory held by records
	aborted int   // records left out because their transaction was aborted
	markers int   // transaction markers left out
}

// decodePartition takes the committed records at and after offset from out of a
// read-committed response.
//
// The broker only stops at the last stable offset; leaving out transaction
// markers and the records of aborted transactions is the consumer's work. A
// transactional batch is aborted when its producer has an aborted transaction
// that begins at or before the batch and whose abort marker has not been passed.
//
// expect is a guess at the number of records.
//
// Source: Apache Kafka, CompletedFetch.nextFetchedRecord (Java consumer).
func decodePartition(p *fetch.ResponsePartition, from int64, expect int) (f fetched, err error) {
	f = fetched{next: from, end: p.HighWatermark}
	stream, ok := p.RecordSet.Records.(*protocol.RecordStream)
	if !ok {
		return f, nil // nothing there
	}
	aborts := slices.Clone(p.AbortedTransactions)
	slices.SortFunc(aborts, func(a, b fetch.ResponseTransaction) int {
		return int(a.FirstOffset - b.FirstOffset)
	})
	aborting := map[int64]bool{} // producers inside an aborted transaction
	var arena arena
	defer func() { f.bytes = arena.used + cap(f.records)*recordSize }() // also of what comes before an error
	if expect > 0 {
		f.records = make([]pipeline.Record, 0, expect)
	}
	for _, batch := range stream.Records {
		switch b := batch.(type) {
		case *protocol.ControlBatch:
			for len(aborts) > 0 && aborts[0].FirstOffset <= b.BaseOffset {
				aborting[aborts[0].ProducerID] = true
				aborts = aborts[1:]
			}
			if err := f.skipMarker(b, aborting); err != nil {
				return f, err
			}
		case *protocol.RecordBatch:
			for len(aborts) > 0 && aborts[0].FirstOffset <= b.BaseOffset {
				aborting[aborts[0].ProducerID] = true
				aborts = aborts[1:]
			}
			skip := b.Attributes.Transactional() && aborting[b.ProducerID]
			if err := f.take(b.Records, from, skip, &arena); err != nil {
				return f, err
			}
		default: // formats older than transactions
			if err := f.take(b, from, false, &arena); err != nil {
				return f, err
			}
		}
	}
	if f.next == from && len(stream.Records) > 0 {
		// Batches came, but nothing at or after from: the offset lies in the gap
		// that compaction left at the end of a batch. The gap is not told to us,
		// so walk through it.
		f.next++
	}
	return f, nil
}

// skipMarker passes a control batch; an abort marker ends its transaction.
func (f *fetched) skipMarker(b *protocol.ControlBatch, aborting map[int64]bool) error {
	for {
		r, err := b.Records.ReadRecord()
		if err == io.EOF { //nolint:errorlint // the reader returns it bare
			return nil
		}
		if err != nil {
			return fmt.Errorf("read transaction marker: %w", err)
		}
		key, err := protocol.ReadAll(r.Key)
		closeRecord(r)
		if err != nil {
			return fmt.Errorf("read transaction marker: %w", err)
		}
		// version int16, type int16; 0 = abort, 1 = commit.
		if len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 0 {
			delete(aborting, b.ProducerID)
		}
		f.markers++
		f.next = max(f.next, r.Offset+1)
	}
}

// take copies the records at and after from out of kafka-go's buffers, or passes
// them if they are to be skipped.
func (f *fetched) take(records protocol.RecordReader, from int64, skip bool, arena *arena) error {
	for {
		r, err := records.ReadRecord()
		if err == io.EOF { //nolint:errorlint // the reader returns it bare
			return nil
		}
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if r.Offset < from {
			closeRecord(r) // a batch may begin before the offset asked for
			continue
		}
		f.next = max(f.next, r.Offset+1)
		if skip {
			f.aborted++
			closeRecord(r)
			continue
		}
		out := pipeline.Record{Offset: r.Offset, Time: r.Time.UTC()}
		if out.Key, err = arena.copy(r.Key); err == nil {
			out.Value, err = arena.copy(r.Value)
		}
		closeRecord(r)
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if len(r.Headers) > 0 {
			out.Headers = make([]pipeline.Header, len(r.Headers))
			for i, h := range r.Headers {
				out.Headers[i] = pipeline.Header{Key: h.Key, Value: h.Value}
				arena.used += len(h.Key) + len(h.Value) + headerSize
			}
		}
		f.records = append(f.records, out)
	}
}

func closeRecord(r *protocol.Record) {
	if r.Key != nil {
		_ = r.Key.Close()
	}
	if r.Value != nil {
		_ = r.Value.Close()
	}
}

const (
	recordSize = 104 // of a pipeline.Record
	headerSize = 40  // of a pipeline.Header

	firstBlock = 4 << 10
	lastBlock  = 256 << 10
)

// arena gives keys and values of one fetch a home in few allocations.
type arena struct {
	block []byte // free space
	size  int    // of the newest block; they double
	used  int
}

// copy drains b. Nil stays nil, empty stays empty.
func (a *arena) copy(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	n := b.Len()
	if n == 0 {
		return []byte{}, nil
	}
	a.used += n
	if n > len(a.block) {
		a.size = min(max(2*a.size, firstBlock), lastBlock)
		a.block = make([]byte, max(n, a.size))
	}
	dst := a.block[:n:n]
	a.block = a.block[n:]
	if _, err := io.ReadFull(b, dst); err != nil {
		return nil, err
	}
	return dst, nil
}
