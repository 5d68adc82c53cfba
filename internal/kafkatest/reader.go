package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// A Record is a record read back from a topic. Its slices are its own.
type Record struct {
	Partition  int
	Offset     int64
	Time       time.Time
	Key, Value []byte // nil: null
	Headers    []kafka.Header
}

// A Reader is an auditor's view of a cluster: it reads whole topics, from their first
// record to the end they have when asked, without a group, and asks what groups have
// committed. Safe for concurrent use. Close it in the end.
type Reader struct {
	client    *kafka.Client
	transport *kafka.Transport
}

// NewReader connects to nothing.
func NewReader(addrs []string) *Reader {
	t := &kafka.Transport{}
	return &Reader{transport: t, client: &kafka.Client{Addr: kafka.TCP(addrs...), Transport: t, Timeout: 30 * time.Second}}
}

// Close closes the connections.
func (r *Reader) Close() { r.transport.CloseIdleConnections() }

// Ends returns the end offset of each partition of a topic.
func (r *Reader) Ends(ctx context.Context, topic string) ([]int64, error) {
	meta, err := r.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", topic, err)
	}
	var ask []kafka.OffsetRequest
	for _, t := range meta.Topics {
		if t.Name == topic {
			for _, p := range t.Partitions {
				ask = append(ask, kafka.LastOffsetOf(p.ID))
			}
		}
	}
	if len(ask) == 0 {
		return nil, fmt.Errorf("look up %s: the brokers know no partitions of it", topic)
	}
	res, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	if err != nil {
		return nil, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	ends := make([]int64, len(ask))
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("find the end of %s/%d: %w", topic, p.Partition, p.Error)
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

// Committed returns a group's offset for each of n partitions, 0 where it has none, as a
// group that nobody has joined yet.
func (r *Reader) Committed(ctx context.Context, group, topic string, n int) ([]int64, error) {
	ask := make([]int, n)
	for i := range ask {
		ask[i] = i
	}
	res, err := r.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: ask}})
	if err == nil && errors.Is(res.Error, kafka.GroupIdNotFound) {
		return make([]int64, n), nil
	}
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("look up the offsets of group %s: %w", group, err)
	}
	if len(res.Topics[topic]) != n {
		return nil, fmt.Errorf("look up the offsets of group %s: %d partitions instead of %d", group, len(res.Topics[topic]), n)
	}
	offsets := make([]int64, n)
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("look up the offset of group %s in %s/%d: %w", group, topic, p.Partition, p.Error)
		}
		offsets[p.Partition] = max(0, p.CommittedOffset)
	}
	return offsets, nil
}

// Each calls see for every record of a topic: partition by partition in order, but a few
// partitions side by side. see must be safe for that.
func (r *Reader) Each(ctx context.Context, topic string, see func(*Record) error) error {
	ends, err := r.Ends(ctx, topic)
	if err != nil {
		return err
	}
	partitions, ctx := errgroup.WithContext(ctx)
	partitions.SetLimit(4) // each has an answer in memory, unpacked
	for id, end := range ends {
		partitions.Go(func() error { return r.eachOf(ctx, topic, id, 0, end, see) })
	}
	return partitions.Wait()
}

// Follow is Each without an end, of a topic with so many partitions: it calls see for
// what comes, too, until ctx is done, and then returns nil.
func (r *Reader) Follow(ctx context.Context, topic string, partitions int, see func(*Record) error) error {
	following, running := errgroup.WithContext(ctx)
	for id := range partitions {
		following.Go(func() error { return r.eachOf(running, topic, id, 0, math.MaxInt64, see) })
	}
	if err := following.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// One returns a single record.
func (r *Reader) One(ctx context.Context, topic string, partition int, offset int64) (*Record, error) {
	var found *Record
	errFound := errors.New("found")
	err := r.eachOf(ctx, topic, partition, offset, offset+1, func(seen *Record) error {
		found = seen
		return errFound
	})
	if found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("%s/%d has no record %d: %w", topic, partition, offset, err)
}

// eachOf calls see for the records of a partition from at to end.
func (r *Reader) eachOf(ctx context.Context, topic string, partition int, at, end int64, see func(*Record) error) error {
	for at < end {
		res, err := r.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: topic, Partition: partition, Offset: at, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 250 * time.Millisecond,
		})
		if err == nil {
			err = res.Error
		}
		if err != nil {
			return fmt.Errorf("read %s/%d at %d: %w", topic, partition, at, err)
		}
		for {
			record, err := res.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read %s/%d at %d: %w", topic, partition, at, err)
			}
			seen := Record{Partition: partition, Offset: record.Offset, Time: record.Time, Headers: record.Headers}
			if seen.Key, err = bytesOf(record.Key); err == nil {
				seen.Value, err = bytesOf(record.Value)
			}
			if err != nil {
				return fmt.Errorf("read %s/%d at %d: %w", topic, partition, record.Offset, err)
			}
			if seen.Offset >= at && seen.Offset < end {
				if err := see(&seen); err != nil {
					return fmt.Errorf("%s/%d at %d: %w", topic, partition, seen.Offset, err)
				}
			}
			at = max(at, seen.Offset+1)
		}
	}
	return nil
}

// bytesOf reads and closes b; null stays nil, and what is empty does not become it.
func bytesOf(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close() // gives memory back; there is nothing to fail
	all, err := kafka.ReadAll(b)
	if err == nil && all == nil {
		all = []byte{}
	}
	return all, err
}
