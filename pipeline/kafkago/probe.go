package kafkago

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Validate reports all that is wrong with addresses, files and credentials, as far as
// that can be told without connecting.
func (c Connection) Validate() error {
	l, err := c.open(nil, coordinatorTimeout)
	if err != nil {
		return err
	}
	l.close()
	return nil
}

// A Probe asks a cluster what a person wants to know before a program is started on it.
// It makes no topic, no group, no record, and changes none. Close it. Safe for concurrent
// use.
type Probe struct{ link *link }

// Probe makes a Probe of these topics; it connects when it is asked.
func (c Connection) Probe(topics ...string) (*Probe, error) {
	l, err := c.open(topics, coordinatorTimeout)
	if err != nil {
		return nil, err
	}
	return &Probe{l}, nil
}

// Close gives up the connections.
func (p *Probe) Close() { p.link.close() }

// Broker connects to one address, with TLS and credentials as configured, and returns
// the addresses by which the cluster's brokers want to be reached, sorted.
func (p *Probe) Broker(ctx context.Context, address string) (advertised []string, err error) {
	conn, err := p.link.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", address, err)
		}
	}
	brokers, err := conn.Brokers()
	if err != nil {
		return nil, fmt.Errorf("ask %s for the cluster's brokers: %w", address, err)
	}
	for _, b := range brokers {
		advertised = append(advertised, net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
	}
	slices.Sort(advertised)
	return slices.Compact(advertised), nil
}

// Topic returns a topic's number of partitions; a *[TopicMissingError] if there is none.
func (p *Probe) Topic(ctx context.Context, topic string) (partitions int, err error) {
	return countPartitions(ctx, p.link, topic)
}

// ErrNotTold is returned for a setting that the brokers don't tell.
var ErrNotTold = errors.New("the brokers don't tell")

// MaxMessageBytes returns the largest record batch that a topic takes. Clients may lack
// the right to know.
func (p *Probe) MaxMessageBytes(ctx context.Context, topic string) (int64, error) {
	const setting = "max.message.bytes"
	res, err := p.link.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{setting}},
	}})
	if err != nil {
		return 0, fmt.Errorf("ask for the settings of %s: %w", topic, err)
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			return 0, fmt.Errorf("ask for the settings of %s: %w", topic, r.Error)
		}
		for _, e := range r.ConfigEntries {
			if e.ConfigName == setting {
				return strconv.ParseInt(e.ConfigValue, 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("ask for the settings of %s: %w", topic, ErrNotTold)
}

// Coordinator returns the address of the broker that a group's members turn to. It asks
// until there is one: a cluster that never had a group makes the topic of their offsets
// when somebody first asks.
func (p *Probe) Coordinator(ctx context.Context, group string) (string, error) {
	for pause := (backoff{min: 100 * time.Millisecond}); ; {
		res, err := p.link.client.FindCoordinator(ctx, &kafka.FindCoordinatorRequest{Key: group, KeyType: kafka.CoordinatorKeyTypeConsumer})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			return net.JoinHostPort(res.Coordinator.Host, strconv.Itoa(res.Coordinator.Port)), nil
		}
		if !errors.Is(err, kafka.GroupCoordinatorNotAvailable) || !pause.wait(ctx) {
			return "", fmt.Errorf("ask for the coordinator of group %s: %w", group, err)
		}
	}
}
