package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"sortition/internal/kafkatest"
)

// benchBroker is the broker that is measured on, and what was made there. Its
// topics and groups have names that are used once. It is used by one goroutine.
type benchBroker struct {
	addrs      []string
	fake       *kafkatest.Cluster // nil: the broker is somebody's
	partitions int
	prefix     string
	made       int
	topics     map[string]bool
	groups     map[string]bool
	client     *kafka.Client
	transport  *kafka.Transport
}

func openBenchBroker(addrs []string, partitions int) (*benchBroker, error) {
	b := &benchBroker{
		addrs: addrs, partitions: partitions, topics: map[string]bool{}, groups: map[string]bool{},
		prefix: "sortition-bench-" + strings.ToLower(rand.Text()[:8]) + "-",
	}
	if len(addrs) == 0 {
		fake, err := kafkatest.Start(nil)
		if err != nil {
			return nil, err
		}
		b.fake, b.addrs = fake, fake.Addrs()
	}
	b.transport = &kafka.Transport{MetadataTTL: 2 * time.Second, MetadataTopics: []string{b.prefix}}
	b.client = &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: b.transport, Timeout: 30 * time.Second}
	return b, nil
}

func (b *benchBroker) name(what string) string {
	b.made++
	return b.prefix + strconv.Itoa(b.made) + "-" + what
}

// topic makes a topic; config is names and values of its settings, by turns.
func (b *benchBroker) topic(ctx context.Context, what string, config ...string) (string, error) {
	name := b.name(what)
	b.topics[name] = true
	if err := kafkatest.CreateTopic(ctx, b.addrs, kafkatest.Topic{Name: name, Partitions: b.partitions}, config...); err != nil {
		return "", err
	}
	// The metadata name a leader before it knows that it is one. The bare loops repeat
	// nothing, so wait until it does.
	patience, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := b.ends(patience, name)
		if err == nil {
			return name, nil
		}
		select {
		case <-patience.Done():
			return "", fmt.Errorf("wait for the leaders of %s: %w", name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// group names a group, which is deleted at the end.
func (b *benchBroker) group(what string) string {
	name := b.name(what)
	b.groups[name] = true
	return name
}

// drop deletes topics.
func (b *benchBroker) drop(ctx context.Context, topics ...string) error {
	res, err := b.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics})
	if err != nil {
		return fmt.Errorf("delete %d topics: %w", len(topics), err)
	}
	var faults []error
	for _, t := range topics {
		if err := res.Errors[t]; err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			faults = append(faults, fmt.Errorf("delete topic %s: %w", t, err))
			continue
		}
		delete(b.topics, t)
	}
	return errors.Join(faults...)
}

// ends returns the end offset of each partition of a topic.
func (b *benchBroker) ends(ctx context.Context, topic string) ([]int64, error) {
	r := kafkatest.NewReader(b.addrs) // one that has been used has not heard of a new topic yet
	defer r.Close()
	return r.Ends(ctx, topic)
}

// stored is how many records a topic holds.
func (b *benchBroker) stored(ctx context.Context, topic string) (int, error) {
	ends, err := b.ends(ctx, topic)
	total := 0
	for _, end := range ends {
		total += int(end)
	}
	return total, err
}

// close deletes what was made, also when the end of ctx is why.
func (b *benchBroker) close(ctx context.Context) error {
	defer b.transport.CloseIdleConnections()
	if b.fake != nil {
		b.fake.Close()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var faults []error
	for name := range b.topics {
		faults = append(faults, b.drop(ctx, name))
	}
	for name := range b.groups {
		res, err := b.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{name}})
		if err == nil {
			err = res.Errors[name]
		}
		if err != nil && !errors.Is(err, kafka.GroupIdNotFound) {
			faults = append(faults, fmt.Errorf("delete group %s: %w", name, err))
		}
	}
	return errors.Join(faults...)
}
