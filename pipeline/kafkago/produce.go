package kafkago

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// send sends the batch, repeating what fails, until all is dealt with, a failure
// is final, or nobody waits for it any more.
func (b *batch) send() {
	_ = b.sendRange(0, b.count)
}

// sendRange stores the records from and up to, exclusive, repeating while failures
// are transient. Records the broker refuses are found by halving, noted as failed
// for good, and count as dealt with. The ranges of a batch are dealt with in order,
// and after an error nothing that comes later is sent, lest it be stored earlier.
func (b *batch) sendRange(from, to int) error {
	q, p := b.queue, b.queue.producer
	failing := false
	for pause := (backoff{min: p.cfg.RetryBackoff}); ; {
		if !b.wanted(from, to) {
			b.dealtWith(to)
			return nil
		}
		err := b.request(from, to)
		if err == nil {
			if failing {
				p.cfg.Logger.Info("produce: partition recovered", q.where())
			}
			b.dealtWith(to)
			return nil
		}
		err = fmt.Errorf("produce to %s/%d: %w", q.topic, q.partition, err)
		switch classify(err) {
		case classRefused:
			if to-from == 1 {
				b.refuse(from, err)
				return nil
			}
			half := from + (to-from)/2
			if err := b.sendRange(from, half); err != nil {
				return err
			}
			return b.sendRange(half, to)
		case classFatal:
			b.failed(err)
			return err
		case classTransient:
		}
		if b.ctx.Err() != nil { // and this is what it failed of
			return b.ctx.Err()
		}
		b.failed(err)
		if !failing {
			failing = true
			p.cfg.Logger.Warn("produce: partition fails, repeating", q.where(), slog.Any("error", err))
		}
		if !pause.wait(b.ctx) {
			return b.ctx.Err()
		}
		p.stats.retries.Add(1)
	}
}

// wanted reports whether the range has records of a call that has not left.
func (b *batch) wanted(from, to int) bool {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	return slices.ContainsFunc(b.pieces, func(pc *piece) bool {
		return !pc.gone && pc.start < to && from < pc.start+len(pc.indexes)
	})
}

func (b *batch) dealtWith(to int) {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	b.done = to
}

func (b *batch) failed(err error) {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	b.failure = err
}

// refuse notes that the record at can never be stored, unless its call has left.
func (b *batch) refuse(at int, err error) {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	b.done = at + 1
	for _, pc := range b.pieces {
		if i := at - pc.start; i >= 0 && i < len(pc.indexes) && !pc.gone {
			b.queue.producer.stats.refused.Add(1)
			pc.call.failed.add(pc.indexes[i:i+1], true, err)
		}
	}
}

// request is one attempt.
func (b *batch) request(from, to int) error {
	q, p := b.queue, b.queue.producer
	a := &attempt{batch: b, from: from, to: to, finished: make(chan struct{})}
	q.mu.Lock()
	b.encoding = a
	q.mu.Unlock()
	defer a.release()
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	r := p.codec.take()
	if err := a.encode(r); err != nil {
		p.codec.giveBack(r)
		return err
	}
	raw, err := r.finish()
	if err != nil {
		return err
	}
	res, err := q.link.client.RawProduce(b.ctx, &kafka.RawProduceRequest{
		Topic:        q.topic,
		Partition:    q.partition,
		RequiredAcks: acks,
		RawRecords:   protocol.RawRecordSet{Reader: bytes.NewReader(raw)},
	})
	if err != nil {
		// The transport may still be reading the bytes: they are not used again.
		return err
	}
	stored := r.count
	p.codec.giveBack(r)
	if res.Error != nil {
		return res.Error
	}
	p.stats.requests.Add(1)
	p.stats.records.Add(uint64(stored))
	return nil
}

func (q *queue) where() slog.Attr {
	return slog.Group("to", slog.String("topic", q.topic), slog.Int("partition", q.partition))
}

// produceTo stores a call's outputs for one partition that need several requests,
// one after the other.
func (p *Producer) produceTo(c *call, q *queue, indexes []int32) {
	for len(indexes) > 0 {
		n, size := p.cut(c, indexes)
		if err := p.produceOne(c, q, indexes[:n], size); err != nil {
			p.abandon(c, indexes[n:], err)
			return
		}
		indexes = indexes[n:]
	}
}

func (p *Producer) produceOne(c *call, q *queue, indexes []int32, size int) error {
	pc, err := p.enter(c, q, indexes, size)
	if err != nil {
		p.abandon(c, indexes, err)
		return err
	}
	return p.finish(q, pc)
}

// finish waits for a piece and notes what of it has not been stored.
func (p *Producer) finish(q *queue, pc *piece) error {
	dealt, err := q.wait(pc)
	if err != nil {
		p.abandon(pc.call, pc.indexes[dealt:], err)
	}
	return err
}

// abandon notes outputs as given up for now.
func (p *Producer) abandon(c *call, indexes []int32, err error) {
	p.stats.abandoned.Add(uint64(len(indexes)))
	c.failed.add(indexes, false, err)
}

// cut returns how many leading outputs go into one request, and their size.
func (p *Producer) cut(c *call, indexes []int32) (n, size int) {
	for n < len(indexes) {
		s := wireSize(&c.outputs[indexes[n]])
		if n > 0 && size+s > p.cfg.MaxRequestBytes {
			break
		}
		size += s
		n++
	}
	return n, size
}

// enter waits until there is room for size more bytes in flight, and queues.
func (p *Producer) enter(c *call, q *queue, indexes []int32, size int) (*piece, error) {
	if err := p.budget.Acquire(c.ctx, p.weight(size)); err != nil {
		return nil, fmt.Errorf("produce to %s/%d: waiting for %d bytes to be in flight no longer: %w", q.topic, q.partition, size, err)
	}
	pc := &piece{call: c, indexes: indexes, size: size, settled: make(chan struct{})}
	q.put(pc)
	return pc, nil
}

// weight is what size bytes take of MaxInFlightBytes: not more than all of it, so
// that a single larger record has its turn.
func (p *Producer) weight(size int) int64 { return int64(min(size, p.cfg.MaxInFlightBytes)) }
