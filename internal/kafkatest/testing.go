package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// TB is the part of testing.TB that is used here.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// EnvKafka is the environment variable with the bootstrap address, host:port, of
// a real broker for tests. Tests make their own topics on it.
const EnvKafka = "SORTITION_KAFKA"

// Fake starts an in-process cluster for the duration of a test.
func Fake(tb TB, topics []Topic, options ...kfake.Opt) *Cluster {
	tb.Helper()
	c, err := Start(topics, options...)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Real returns the bootstrap addresses of the real Kafka. Without one the test
// is skipped, saying so; where CI=true it fails, so that nobody believes that it
// ran.
func Real(tb TB) []string {
	tb.Helper()
	switch addrs := os.Getenv(EnvKafka); {
	case addrs != "":
		return strings.Split(addrs, ",")
	case os.Getenv("CI") == "true":
		tb.Fatalf("%s is not set: this test needs a real Apache Kafka (make kafka)", EnvKafka)
	default:
		tb.Skipf("NOT RUN against real Apache Kafka: %s is not set (make kafka starts one)", EnvKafka)
	}
	return nil
}

// Tool returns the path of a program that a test needs, for instance kcat. Without
// it the test is skipped, saying so; where CI=true it fails.
func Tool(tb TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		tb.Fatalf("%s is not installed: this test needs it", name)
	default:
		tb.Skipf("NOT RUN against a foreign client: %s is not installed", name)
	}
	return ""
}

// CreateTopic creates a topic with one replica and waits until every partition
// has a leader. Config is alternating names and values of topic settings. Records are
// kept for ever unless it says otherwise: those of tests have old times, and a real
// broker takes away what has passed its retention in the middle of a test.
func CreateTopic(ctx context.Context, addrs []string, topic Topic, config ...string) error {
	// The TTL is also kafka-go's deadline for a metadata request.
	transport := &kafka.Transport{MetadataTTL: time.Second, MetadataTopics: []string{topic.Name}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(addrs...), Timeout: 10 * time.Second, Transport: transport}
	create := kafka.TopicConfig{Topic: topic.Name, NumPartitions: topic.Partitions, ReplicationFactor: 1}
	if !slices.Contains(config, "retention.ms") {
		config = append(slices.Clone(config), "retention.ms", "-1")
	}
	for i := 0; i+1 < len(config); i += 2 {
		create.ConfigEntries = append(create.ConfigEntries, kafka.ConfigEntry{ConfigName: config[i], ConfigValue: config[i+1]})
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{create}})
		if err == nil {
			err = res.Errors[topic.Name]
		}
		if err == nil || errors.Is(err, kafka.TopicAlreadyExists) {
			break
		}
		// A busy or freshly started cluster may not know its controller yet.
		if !errors.Is(err, kafka.BrokerNotAvailable) && !errors.Is(err, kafka.NotController) && !errors.Is(err, kafka.RequestTimedOut) {
			return fmt.Errorf("create topic %s: %w", topic.Name, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("create topic %s: %w", topic.Name, err)
		}
	}
	for {
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic.Name}})
		if err == nil && len(meta.Topics) == 1 && ready(meta.Topics[0], topic.Partitions) {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("create topic %s: its partitions have no leader: %w", topic.Name, ctx.Err())
		}
	}
}

func ready(t kafka.Topic, partitions int) bool {
	if t.Error != nil || len(t.Partitions) < partitions {
		return false
	}
	for _, p := range t.Partitions {
		if p.Error != nil || p.Leader.Host == "" {
			return false
		}
	}
	return true
}
