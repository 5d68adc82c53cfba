package kafkago

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/segmentio/kafka-go"

	"sortition/pipeline"
)

// partitionWriter writes a call's outputs for one partition, in order.
type partitionWriter struct {
	*Producer
	link      *link
	topic     string
	partition int
	outputs   []pipeline.Output
	failed    *failures
}

// write sends indexes in requests of bounded size. After a failure that was not
// the records' own fault it stops: what comes later must not be stored earlier.
func (w *partitionWriter) write(ctx context.Context, indexes []int32) {
	for len(indexes) > 0 {
		n, size := 0, 0
		for n < len(indexes) {
			s := wireSize(&w.outputs[indexes[n]])
			if n > 0 && size+s > w.cfg.MaxRequestBytes {
				break
			}
			size += s
			n++
		}
		if stored, err := w.send(ctx, indexes[:n]); err != nil {
			w.stats.abandoned.Add(uint64(len(indexes) - stored))
			w.failed.add(indexes[stored:], false, err)
			return
		}
		indexes = indexes[n:]
	}
}

// send stores one request's worth of outputs, repeating it while failures are
// transient. Records the broker refuses are found by halving the request, noted
// as failed for good, and count as dealt with. It returns how many leading
// outputs have been dealt with, and why not the others.
func (w *partitionWriter) send(ctx context.Context, indexes []int32) (int, error) {
	failing := false
	for pause := (backoff{min: w.cfg.RetryBackoff}); ; {
		err := w.request(ctx, indexes)
		if err == nil {
			if failing {
				w.cfg.Logger.Info("produce: partition recovered", w.where())
			}
			return len(indexes), nil
		}
		err = fmt.Errorf("produce to %s/%d: %w", w.topic, w.partition, err)
		switch classify(err) {
		case classRefused:
			if len(indexes) == 1 {
				w.stats.refused.Add(1)
				w.failed.add(indexes, true, err)
				return 1, nil
			}
			half := len(indexes) / 2
			n, err := w.send(ctx, indexes[:half])
			if err != nil {
				return n, err
			}
			m, err := w.send(ctx, indexes[half:])
			return half + m, err
		case classFatal:
			return 0, err
		case classTransient:
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w (last failure: %w)", ctx.Err(), err)
		}
		if !failing {
			failing = true
			w.cfg.Logger.Warn("produce: partition fails, repeating", w.where(), slog.Any("error", err))
		}
		if !pause.wait(ctx) {
			return 0, fmt.Errorf("%w (last failure: %w)", ctx.Err(), err)
		}
		w.stats.retries.Add(1)
	}
}

func (w *partitionWriter) request(ctx context.Context, indexes []int32) error {
	records := newOutputReader(w.outputs, indexes)
	defer records.release()
	res, err := w.link.client.Produce(ctx, &kafka.ProduceRequest{
		Topic:        w.topic,
		Partition:    w.partition,
		RequiredAcks: acks,
		Compression:  w.compression,
		Records:      records,
	})
	if err != nil {
		return err
	}
	if res.Error != nil {
		return res.Error
	}
	w.stats.requests.Add(1)
	w.stats.records.Add(uint64(len(indexes)))
	return nil
}

func (w *partitionWriter) where() slog.Attr {
	return slog.Group("to", slog.String("topic", w.topic), slog.Int("partition", w.partition))
}
