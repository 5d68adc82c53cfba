package kafkatest

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Topic is a topic to create.
type Topic struct {
	Name       string
	Partitions int
}

// Cluster is an in-process Kafka cluster of one broker. It keeps everything in
// memory and stores what is acknowledged until it is closed.
type Cluster struct {
	fake *kfake.Cluster
}

// Start starts a cluster with topics on a free loopback port. Options of kfake
// override the defaults. Whoever starts it closes it.
func Start(topics []Topic, options ...kfake.Opt) (*Cluster, error) {
	all := []kfake.Opt{kfake.NumBrokers(1)}
	for _, t := range topics {
		if t.Name == "" || t.Partitions < 1 {
			return nil, fmt.Errorf("start in-process kafka: topic %q with %d partitions", t.Name, t.Partitions)
		}
		all = append(all, kfake.SeedTopics(int32(t.Partitions), t.Name))
	}
	fake, err := kfake.NewCluster(append(all, options...)...)
	if err != nil {
		return nil, fmt.Errorf("start in-process kafka: %w", err)
	}
	return &Cluster{fake: fake}, nil
}

// Addrs returns the bootstrap addresses, host:port.
func (c *Cluster) Addrs() []string { return c.fake.ListenAddrs() }

// Kfake returns the cluster itself, to inject faults with its Control functions.
func (c *Cluster) Kfake() *kfake.Cluster { return c.fake }

// Close stops the cluster and forgets its contents.
func (c *Cluster) Close() { c.fake.Close() }
