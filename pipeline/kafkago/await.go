package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Await waits until a broker answers and all topics exist, for at most timeout,
// and returns their numbers of partitions. When what it waits for changes, it says
// so to logger. The error says what was missing last: a [*TopicMissingError] for
// each topic, or why no broker answers. Nothing is created.
//
// A program calls it before it starts, because a group that is joined too early
// gets an assignment of nothing, and a topic that is missing among the outputs would
// only be noticed by the first batch.
func (c Connection) Await(ctx context.Context, topics []string, timeout time.Duration, logger *slog.Logger) (map[string]int, error) {
	l, err := c.open(topics, coordinatorTimeout)
	if err != nil {
		return nil, err
	}
	defer l.close()
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error // the failure of the last complete look
	said := ""
	for pause := (backoff{min: 50 * time.Millisecond}); ; {
		partitions, err := look(wait, l, topics)
		if err == nil {
			return partitions, nil
		}
		if last == nil || wait.Err() == nil {
			last = err // not the one of being interrupted
		}
		if classify(err) == classFatal {
			return nil, err
		}
		if what := waitsFor(err, c.Brokers); what != said && wait.Err() == nil {
			said = what
			logger.Info("waiting for "+what, slog.Any("error", err), slog.Duration("for_at_most", timeout)) //nolint:sloglint // a handful of messages a start
		}
		if !pause.wait(wait) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("waited %s for %s: %w", timeout, waitsFor(last, c.Brokers), last)
		}
	}
}

// look asks for all topics, so that all that are missing are named together.
func look(ctx context.Context, l *link, topics []string) (map[string]int, error) {
	partitions := map[string]int{}
	var missing []error
	for _, topic := range topics {
		n, err := countPartitions(ctx, l, topic)
		var isMissing *TopicMissingError
		switch {
		case err == nil:
			partitions[topic] = n
		case errors.As(err, &isMissing):
			missing = append(missing, err)
		default:
			return nil, err
		}
	}
	return partitions, errors.Join(missing...)
}

func waitsFor(err error, brokers []string) string {
	var missing *TopicMissingError
	if errors.As(err, &missing) {
		return "topics"
	}
	return "brokers " + strings.Join(brokers, ",")
}
