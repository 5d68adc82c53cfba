package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/segmentio/kafka-go"
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

// logRange asks for the first offset and the end of partitions.
func (l *link) logRange(ctx context.Context, topic string, partitions []int32) (first, end map[int32]int64, err error) {
	first, end = map[int32]int64{}, map[int32]int64{}
	for _, ask := range []struct {
		at   int64
		into map[int32]int64
	}{{kafka.FirstOffset, first}, {kafka.LastOffset, end}} {
		req := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{}}
		for _, p := range partitions {
			req.Topics[topic] = append(req.Topics[topic], kafka.OffsetRequest{Partition: int(p), Timestamp: ask.at})
		}
		res, err := l.client.ListOffsets(ctx, req)
		if err != nil {
			return nil, nil, fmt.Errorf("list offsets: %w", err)
		}
		for _, p := range res.Topics[topic] {
			if p.Error != nil {
				return nil, nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p.Partition, p.Error)
			}
			ask.into[int32(p.Partition)] = max(p.FirstOffset, p.LastOffset)
		}
	}
	for _, p := range partitions {
		if _, ok := first[p]; !ok {
			return nil, nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, errNoAnswer)
		}
		if _, ok := end[p]; !ok {
			return nil, nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, errNoAnswer)
		}
	}
	return first, end, nil
}

// startOffsets returns where each assigned partition begins: at the group's
// offset if the log has it, otherwise by policy. moved lists the partitions whose
// group offset should be set to their start, before anything is read: else a
// "latest" start would skip what is written between here and the first commit.
func (g *generation) startOffsets(ctx context.Context, assigned []kafka.PartitionAssignment) (starts map[int32]int64, moved []int32, err error) {
	partitions := make([]int32, len(assigned))
	for i, a := range assigned {
		partitions[i] = int32(a.ID)
	}
	first, end, err := g.link.logRange(ctx, g.topic, partitions)
	if err != nil {
		return nil, nil, err
	}
	starts = map[int32]int64{}
	for _, a := range assigned {
		p := int32(a.ID)
		at := Position{Offset: a.Offset, First: first[p], End: end[p]}
		switch {
		case a.Offset < 0: // the group has none yet
			if starts[p], err = g.cfg.StartAt.resolve(g.topic, p, at); err != nil {
				return nil, nil, err
			}
			moved = append(moved, p)
		case !at.inside():
			if starts[p], err = g.cfg.OnOutOfRange.resolve(g.topic, p, at); err != nil {
				return nil, nil, err
			}
			where := slog.Group("partition", slog.String("topic", g.topic), slog.Int("id", a.ID))
			g.stats.moved(g.cfg.Logger, where, at, starts[p])
			moved = append(moved, p)
		default:
			starts[p] = a.Offset
		}
	}
	return starts, moved, nil
}

// isFatalOffset reports an error of the offset policy, which repeating does not
// cure.
func isFatalOffset(err error) bool {
	var out *OffsetRangeError
	return errors.As(err, &out)
}
