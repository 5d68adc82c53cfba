package kafkago

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"sortition/pipeline"
)

// lane is one partition during one generation: a queue the fetcher fills, and a
// loop that hands its records out batch by batch, one at a time.
type lane struct {
	topic     string
	partition int32
	offsets   *tracker
	start     int64        // offset the generation begins at
	committed atomic.Int64 // last offset committed, -1: none; set by the committer

	mu    sync.Mutex // guards queue
	queue []*chunk
	ready chan struct{} // capacity 1: "the queue has grown" needs saying once

	held     atomic.Int64 // bytes queued or being worked on
	outSince atomic.Int64 // when the batch in flight was handed out, ns; 0: none
	end      atomic.Int64 // offset after the log's last record, as far as we know
	heard    atomic.Int64 // when end was last told, ns
	wake     chan<- struct{}
}

// chunk is the outcome of one fetch. It may hold no records, when all there was
// has been left out; the offsets are passed all the same.
type chunk struct {
	records []pipeline.Record
	next    int64 // offset after the chunk
	bytes   int
}

func newLane(topic string, partition int32, start int64, wake chan<- struct{}) *lane {
	l := &lane{
		topic: topic, partition: partition, start: start,
		offsets: newTracker(start), ready: make(chan struct{}, 1), wake: wake,
	}
	l.committed.Store(-1)
	return l
}

// ended notes where the log ends.
func (l *lane) ended(end int64) {
	l.end.Store(end)
	l.heard.Store(nowNanos())
}

func (l *lane) where() slog.Attr {
	return slog.Group("partition", slog.String("topic", l.topic), slog.Int("id", int(l.partition)))
}

// push gives the lane a chunk. The fetcher calls it.
func (l *lane) push(c *chunk) {
	l.held.Add(int64(c.bytes))
	l.mu.Lock()
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	notify(l.ready)
}

// pop waits for the next chunk.
func (l *lane) pop(stop context.Context) (*chunk, bool) {
	for stop.Err() == nil {
		l.mu.Lock()
		if len(l.queue) > 0 {
			c := l.queue[0]
			l.queue = slices.Delete(l.queue, 0, 1)
			l.mu.Unlock()
			return c, true
		}
		l.mu.Unlock()
		select {
		case <-l.ready:
		case <-stop.Done():
		}
	}
	return nil, false
}

// deliverer hands a generation's batches to the subscription's channel.
type deliverer struct {
	cfg   *SubscriberConfig
	stats *subscriberCounters
	out   chan<- *message.Message
	dirty chan<- struct{} // tells the committer that there is something to commit
}

// run hands out the lane's records until stop is done; then it waits for what is
// in flight until abandon is done. Message contexts end with abandon, not with
// stop: closing a router must not cancel what is being worked on.
func (d *deliverer) run(stop, abandon context.Context, l *lane) {
	for {
		c, ok := l.pop(stop)
		if !ok {
			return
		}
		records := c.records
		for len(records) > 0 {
			n := min(d.batchSize(), len(records))
			end := c.next
			if n < len(records) {
				end = records[n].Offset
			}
			s := l.offsets.begin(end)
			if !d.deliver(stop, abandon, l, records[:n]) {
				return
			}
			l.offsets.finish(s)
			notify(d.dirty)
			records = records[n:]
		}
		if len(c.records) == 0 {
			l.offsets.finish(l.offsets.begin(c.next))
			notify(d.dirty)
		}
		l.held.Add(int64(-c.bytes))
		notify(l.wake)
	}
}

func (d *deliverer) batchSize() int {
	if d.cfg.PlainMessages {
		return 1
	}
	return d.cfg.MaxBatchRecords
}

// deliver hands out one batch until it is acked. It returns false when it was
// given up: nothing of it may be committed then.
func (d *deliverer) deliver(stop, abandon context.Context, l *lane, records []pipeline.Record) bool {
	pause := backoff{min: d.cfg.NackBackoff, max: d.cfg.MaxNackBackoff}
	for {
		ctx, cancel := context.WithCancel(abandon)
		msg := d.message(ctx, l, records)
		select {
		case d.out <- msg:
		case <-stop.Done():
			cancel()
			return false
		}
		l.outSince.Store(nowNanos())
		acked := d.await(abandon, l, msg, records[0].Offset)
		l.outSince.Store(0)
		cancel()
		switch acked {
		case verdictAck:
			d.stats.lastAck.Store(nowNanos())
			d.stats.batches.Add(1)
			d.stats.records.Add(uint64(len(records)))
			return true
		case verdictAbandoned:
			d.stats.abandoned.Add(1)
			d.cfg.Logger.Warn("batch given up unfinished: it will be repeated", l.where(),
				slog.Int64("offset", records[0].Offset), slog.Int("records", len(records)), slog.Any("cause", context.Cause(abandon)))
			return false
		case verdictNack:
			d.stats.nacks.Add(1)
			if pause.next == 0 {
				d.cfg.Logger.Warn("batch nacked, redelivering until it is acked", l.where(),
					slog.Int64("offset", records[0].Offset), slog.Int("records", len(records)))
			}
			if !pause.wait(stop) {
				return false
			}
		}
	}
}

type verdict uint8

const (
	verdictAck verdict = iota
	verdictNack
	verdictAbandoned
)

// await waits for the verdict on the batch that begins at offset, complaining each
// time it has taken very long again: unlike Kafka's Java client nothing takes the
// partition from a stuck handler.
func (d *deliverer) await(abandon context.Context, l *lane, msg *message.Message, offset int64) verdict {
	began := time.Now()
	stalled := time.NewTicker(d.cfg.StallAfter)
	defer stalled.Stop()
	isStalled := false
	for {
		select {
		case <-msg.Acked():
			return verdictAck
		case <-msg.Nacked():
			return verdictNack
		case <-abandon.Done():
			// An ack that came at the same moment counts.
			select {
			case <-msg.Acked():
				return verdictAck
			default:
				return verdictAbandoned
			}
		case <-stalled.C:
			if !isStalled {
				d.stats.stalled.Add(1)
			}
			isStalled = true
			d.cfg.Logger.Error("batch is neither acked nor nacked: its handler is stuck, or waits for something that is away", l.where(),
				slog.Int64("offset", offset), slog.Duration("for", time.Since(began).Round(time.Second)))
		}
	}
}

// Metadata keys of messages made by a Subscriber.
const (
	MetadataTopic     = "kafka-topic"
	MetadataPartition = "kafka-partition"
	MetadataOffset    = "kafka-offset"
	MetadataKey       = "kafka-key" // of a plain message; absent when the record has no key

	// uuidHeader carries a Watermill message's UUID through Kafka.
	uuidHeader = "_watermill_message_uuid"
)

// message makes the Watermill message for records.
func (d *deliverer) message(ctx context.Context, l *lane, records []pipeline.Record) *message.Message {
	partition := strconv.Itoa(int(l.partition))
	offset := strconv.FormatInt(records[0].Offset, 10)
	coordinates := message.Metadata{MetadataTopic: l.topic, MetadataPartition: partition, MetadataOffset: offset}
	batch := &pipeline.Batch{Topic: l.topic, Partition: l.partition, Records: records}

	msg := message.NewMessage(l.topic+"/"+partition+"/"+offset, nil)
	if d.cfg.PlainMessages {
		r := &records[0]
		msg.Payload = r.Value
		for _, h := range r.Headers {
			if h.Key == uuidHeader {
				msg.UUID = string(h.Value)
				continue
			}
			msg.Metadata.Set(h.Key, string(h.Value))
		}
		if r.Key != nil {
			msg.Metadata.Set(MetadataKey, string(r.Key))
		}
	}
	maps.Copy(msg.Metadata, coordinates)
	msg.SetContext(pipeline.WithBatch(ctx, batch))
	return msg
}

// notify sends a signal that need not be counted: the channel has capacity 1.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
