package main

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

// topicRecord is a record read back from a topic. Its slices are its own.
type topicRecord struct {
	partition  int
	offset     int64
	time       time.Time
	key, value []byte
	headers    []kafka.Header
}

// topicReader reads topics from their first record on, without a group: an auditor's
// view.
type topicReader struct {
	client    *kafka.Client
	transport *kafka.Transport
}

func newTopicReader(addrs []string) *topicReader {
	t := &kafka.Transport{}
	return &topicReader{transport: t, client: &kafka.Client{Addr: kafka.TCP(addrs...), Transport: t, Timeout: 30 * time.Second}}
}

func (r *topicReader) close() { r.transport.CloseIdleConnections() }

// ends returns the end offset of each partition of a topic.
func (r *topicReader) ends(ctx context.Context, topic string) ([]int64, error) {
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

// committed returns a group's offset for each of n partitions, 0 where it has none.
func (r *topicReader) committed(ctx context.Context, group, topic string, n int) ([]int64, error) {
	ask := make([]int, n)
	for i := range ask {
		ask[i] = i
	}
	res, err := r.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: ask}})
	if err == nil {
		err = res.Error
	}
	offsets := make([]int64, n)
	if errors.Is(err, kafka.GroupIdNotFound) {
		return offsets, nil // nobody has been a member yet
	}
	if err != nil {
		return nil, fmt.Errorf("look up the offsets of group %s: %w", group, err)
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("look up the offset of group %s in %s/%d: %w", group, topic, p.Partition, p.Error)
		}
		offsets[p.Partition] = max(0, p.CommittedOffset)
	}
	return offsets, nil
}

// each calls see for every record of a topic: partition by partition in order, but
// partitions side by side. see must be safe for that.
func (r *topicReader) each(ctx context.Context, topic string, see func(*topicRecord) error) error {
	ends, err := r.ends(ctx, topic)
	if err != nil {
		return err
	}
	partitions, ctx := errgroup.WithContext(ctx)
	for id, end := range ends {
		partitions.Go(func() error { return r.eachOf(ctx, topic, id, end, see) })
	}
	return partitions.Wait()
}

// follow is [topicReader.each] without an end: it calls see for what comes too, until
// ctx is done, and then returns nil.
func (r *topicReader) follow(ctx context.Context, topic string, partitions int, see func(*topicRecord) error) error {
	following, running := errgroup.WithContext(ctx)
	for id := range partitions {
		following.Go(func() error { return r.eachOf(running, topic, id, math.MaxInt64, see) })
	}
	if err := following.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// one returns a single record.
func (r *topicReader) one(ctx context.Context, topic string, partition int, offset int64) (*topicRecord, error) {
	var found *topicRecord
	errFound := errors.New("found")
	err := r.eachFrom(ctx, topic, partition, offset, offset+1, func(seen *topicRecord) error {
		found = seen
		return errFound
	})
	if found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("%s/%d has no record %d: %w", topic, partition, offset, err)
}

func (r *topicReader) eachOf(ctx context.Context, topic string, partition int, end int64, see func(*topicRecord) error) error {
	return r.eachFrom(ctx, topic, partition, 0, end, see)
}

func (r *topicReader) eachFrom(ctx context.Context, topic string, partition int, at, end int64, see func(*topicRecord) error) error {
	for at < end {
		res, err := r.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: topic, Partition: partition, Offset: at, MinBytes: 1, MaxBytes: 8 << 20, MaxWait: 250 * time.Millisecond,
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
			seen := topicRecord{partition: partition, offset: record.Offset, time: record.Time, headers: record.Headers}
			if seen.key, err = kafka.ReadAll(record.Key); err == nil {
				seen.value, err = kafka.ReadAll(record.Value)
			}
			for _, b := range []kafka.Bytes{record.Key, record.Value} {
				if b != nil {
					_ = b.Close() // gives memory back; there is nothing to fail
				}
			}
			if err != nil {
				return fmt.Errorf("read %s/%d at %d: %w", topic, partition, record.Offset, err)
			}
			if seen.offset >= at && seen.offset < end {
				if err := see(&seen); err != nil {
					return fmt.Errorf("%s/%d at %d: %w", topic, partition, seen.offset, err)
				}
			}
			at = max(at, seen.offset+1)
		}
	}
	return nil
}
