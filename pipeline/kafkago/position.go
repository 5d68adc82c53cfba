package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
)

// OffsetPolicy says where to read when there is no offset to go by.
type OffsetPolicy string

// The policies. Fail is for offsets out of range only.
const (
	Earliest OffsetPolicy = "earliest" // the first record there is
	Latest   OffsetPolicy = "latest"   // the next record that comes
	Fail     OffsetPolicy = "fail"     // end the subscription with an OffsetRangeError
)

// Position is an offset and the log it should be in.
type Position struct {
	Offset int64
	First  int64 // first offset of the log
	End    int64 // offset after the last record
}

func (p Position) inside() bool { return p.First <= p.Offset && p.Offset <= p.End }

// resolve returns where to go from a position outside the log.
func (o OffsetPolicy) resolve(topic string, partition int32, p Position) (int64, error) {
	switch o {
	case Earliest:
		return p.First, nil
	case Latest:
		return p.End, nil
	default:
		return 0, &OffsetRangeError{Topic: topic, Partition: partition, Offset: p.Offset, First: p.First, End: p.End}
	}
}

// leaderOffsets is a ListOffsets request to one broker. kafka-go's own type splits
// itself into a request, and a connection, for every partition; this one, the
// same in all else, has no Split.
type leaderOffsets listoffsets.Request

// ApiKey implements protocol.Message.
//
//nolint:staticcheck // the name is the interface's
func (*leaderOffsets) ApiKey() protocol.ApiKey { return protocol.ListOffsets }

// Broker routes the request to the leader of its first partition; the others are
// led by the same broker.
func (r *leaderOffsets) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	return (*listoffsets.Request)(r).Broker(cluster)
}

// logRange asks for the first offset and the end of partitions, one request per
// broker for each.
func (l *link) logRange(ctx context.Context, topic string, partitions []int32) (first, end map[int32]int64, err error) {
	leaders, err := l.leaders(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	byBroker := map[int][]int32{}
	for _, p := range partitions {
		broker, ok := leaders[p]
		if !ok {
			return nil, nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, kafka.LeaderNotAvailable)
		}
		byBroker[broker] = append(byBroker[broker], p)
	}
	first, end = map[int32]int64{}, map[int32]int64{}
	for _, led := range byBroker {
		if err := l.listOffsets(ctx, topic, led, kafka.FirstOffset, first); err != nil {
			return nil, nil, err
		}
		if err := l.listOffsets(ctx, topic, led, kafka.LastOffset, end); err != nil {
			return nil, nil, err
		}
	}
	return first, end, nil
}

// listOffsets adds the offsets that at stands for to into; one broker leads all
// the partitions.
func (l *link) listOffsets(ctx context.Context, topic string, partitions []int32, at int64, into map[int32]int64) error {
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	req := &leaderOffsets{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{Topic: topic}}}
	for _, p := range partitions {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions,
			listoffsets.RequestPartition{Partition: p, CurrentLeaderEpoch: -1, Timestamp: at})
	}
	msg, err := l.transport.RoundTrip(ctx, l.client.Addr, req)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	res, ok := msg.(*listoffsets.Response)
	if !ok {
		return fmt.Errorf("list offsets of %s: answered with a %T", topic, msg)
	}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return fmt.Errorf("list offsets of %s/%d: %w", topic, p.Partition, kafka.Error(p.ErrorCode))
			}
			into[p.Partition] = p.Offset
		}
	}
	for _, p := range partitions {
		if _, ok := into[p]; !ok {
			return fmt.Errorf("list offsets of %s/%d: %w", topic, p, errNoAnswer)
		}
	}
	return nil
}

// startOffsets returns where each assigned partition begins: at the group's
// offset if the log has it, otherwise by policy. moved lists the partitions whose
// group offset should be set to their start, before anything is read: else a
// "latest" start would skip what is written between here and the first commit. ends
// are where the logs end.
func (g *generation) startOffsets(ctx context.Context, assigned []kafka.PartitionAssignment) (starts, ends map[int32]int64, moved []int32, err error) {
	partitions := make([]int32, len(assigned))
	for i, a := range assigned {
		partitions[i] = int32(a.ID)
	}
	first, end, err := g.link.logRange(ctx, g.topic, partitions)
	if err != nil {
		return nil, nil, nil, err
	}
	starts = map[int32]int64{}
	for _, a := range assigned {
		p := int32(a.ID)
		at := Position{Offset: a.Offset, First: first[p], End: end[p]}
		switch {
		case a.Offset < 0: // the group has none yet
			if starts[p], err = g.cfg.StartAt.resolve(g.topic, p, at); err != nil {
				return nil, nil, nil, err
			}
			moved = append(moved, p)
		case !at.inside():
			if starts[p], err = g.cfg.OnOutOfRange.resolve(g.topic, p, at); err != nil {
				return nil, nil, nil, err
			}
			where := slog.Group("partition", slog.String("topic", g.topic), slog.Int("id", a.ID))
			g.stats.moved(g.cfg.Logger, where, at, starts[p])
			moved = append(moved, p)
		default:
			starts[p] = a.Offset
		}
	}
	return starts, end, moved, nil
}

// isFatalOffset reports an error of the offset policy, which repeating does not
// cure.
func isFatalOffset(err error) bool {
	var out *OffsetRangeError
	return errors.As(err, &out)
}
