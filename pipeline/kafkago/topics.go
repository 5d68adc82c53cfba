package kafkago

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// TopicSpec is how a topic is to be when it has to be created. The zero values
// leave the choice to the brokers.
type TopicSpec struct {
	Name string
	// Partitions and ReplicationFactor: 0 is the brokers' default.
	Partitions        int
	ReplicationFactor int
	// Retention is how long records are kept: retention.ms. 0 is the brokers'
	// default; negative means for ever.
	Retention time.Duration
	// Compact keeps the last record of every key: cleanup.policy=compact; with a
	// positive Retention, compact,delete.
	Compact bool
	// Config are further settings of the topic, by Kafka's names. They win.
	Config map[string]string
}

// config returns the topic's settings by name, sorted.
func (s *TopicSpec) config() []kafka.ConfigEntry {
	settings := map[string]string{}
	switch {
	case s.Retention < 0:
		settings["retention.ms"] = "-1"
	case s.Retention > 0:
		settings["retention.ms"] = strconv.FormatInt(s.Retention.Milliseconds(), 10)
	}
	if s.Compact {
		settings["cleanup.policy"] = "compact"
		if s.Retention > 0 {
			settings["cleanup.policy"] = "compact,delete"
		}
	}
	maps.Copy(settings, s.Config)
	var entries []kafka.ConfigEntry
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: settings[name]})
	}
	return entries
}

// EnsuredTopic is what [Connection.EnsureTopics] found or made.
type EnsuredTopic struct {
	Name       string
	Created    bool // by this call; false: it was there
	Partitions int  // that it has
	Wanted     int  // partitions asked for, 0 if that was left to the brokers
}

// Differs reports that the topic was there with another number of partitions. It
// stays so: adding partitions would send the keys of running producers elsewhere.
func (e EnsuredTopic) Differs() bool { return e.Wanted != 0 && e.Wanted != e.Partitions }

// EnsureTopics creates the topics that are missing, waits until they can be used,
// and returns what it found, in the order of specs. What exists is never altered,
// whatever its settings; another number of partitions is told and logged. It
// repeats what may pass, for at most timeout. Several programs may call it at once.
func (c Connection) EnsureTopics(ctx context.Context, specs []TopicSpec, timeout time.Duration, logger *slog.Logger) ([]EnsuredTopic, error) {
	names := []string{}
	for _, s := range specs {
		if s.Name == "" || s.Partitions < 0 || s.ReplicationFactor < 0 {
			return nil, fmt.Errorf("topic %q with %d partitions and %d replicas cannot be created", s.Name, s.Partitions, s.ReplicationFactor)
		}
		if slices.Contains(names, s.Name) {
			return nil, fmt.Errorf("topic %q is asked for twice", s.Name)
		}
		names = append(names, s.Name)
	}
	l, err := c.open(names, coordinatorTimeout)
	if err != nil {
		return nil, err
	}
	defer l.close()
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	found := make([]EnsuredTopic, len(specs))
	for i, s := range specs {
		found[i] = EnsuredTopic{Name: s.Name, Wanted: s.Partitions}
	}
	said := false
	var cause error // why the last try failed that had its time
	for pause := (backoff{min: 50 * time.Millisecond}); ; {
		err := l.ensure(wait, specs, found)
		if err == nil {
			break
		}
		if isHopeless(err) {
			return nil, fmt.Errorf("create topics: %w", err)
		}
		if wait.Err() == nil {
			cause = err
		}
		if !said && wait.Err() == nil {
			said = true
			logger.Info("cannot create topics yet, repeating", slog.Any("error", err), slog.Duration("for_at_most", timeout))
		}
		if !pause.wait(wait) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("create topics: tried for %s: %w", timeout, cmp.Or(cause, err))
		}
	}
	for _, f := range found {
		switch {
		case f.Created:
			logger.Info("topic created", slog.String("topic", f.Name), slog.Int("partitions", f.Partitions))
		case f.Differs():
			logger.Warn("topic exists with another number of partitions: left as it is", slog.String("topic", f.Name),
				slog.Int("partitions", f.Partitions), slog.Int("configured", f.Wanted))
		}
	}
	return found, nil
}

// ensure creates what is missing, and fills in the partitions of what is there.
// All that is in the way is reported.
func (l *link) ensure(ctx context.Context, specs []TopicSpec, found []EnsuredTopic) error {
	var missing []kafka.TopicConfig
	var faults []error
	for i, s := range specs {
		n, err := countPartitions(ctx, l, s.Name)
		var unknown *TopicMissingError
		switch {
		case err == nil:
			found[i].Partitions = n
		case errors.As(err, &unknown) && unknown.Err == nil && found[i].Created:
			faults = append(faults, err) // and soon there
		case errors.As(err, &unknown) && unknown.Err == nil:
			create := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.ReplicationFactor, ConfigEntries: s.config()}
			if create.NumPartitions == 0 {
				create.NumPartitions = -1
			}
			if create.ReplicationFactor == 0 {
				create.ReplicationFactor = -1
			}
			missing = append(missing, create)
		default:
			faults = append(faults, err)
		}
	}
	if len(missing) == 0 {
		return errors.Join(faults...)
	}
	res, err := l.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return errors.Join(append(faults, err)...)
	}
	for i := range found {
		err, asked := res.Errors[found[i].Name]
		switch {
		case !asked || errors.Is(err, kafka.TopicAlreadyExists): // somebody was quicker
		case err == nil:
			found[i].Created = true
		default:
			faults = append(faults, fmt.Errorf("topic %s: %w", found[i].Name, err))
		}
	}
	if len(faults) == 0 {
		faults = append(faults, errJustCreated)
	}
	return errors.Join(faults...)
}

// errJustCreated makes the next look count the partitions.
var errJustCreated = errors.New("the topics have no leaders yet")

// isHopeless reports a refusal that waiting does not change. Too few brokers for a
// replication factor is none: more of them may be starting.
func isHopeless(err error) bool {
	if classify(err) == classFatal {
		return true
	}
	for _, code := range []kafka.Error{kafka.InvalidPartitionNumber, kafka.InvalidReplicaAssignment, kafka.InvalidConfiguration, kafka.InvalidRequest} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
