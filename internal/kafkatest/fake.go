package kafkatest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Topic is a topic to create.
type Topic struct {
	Name       string
	Partitions int
}

// Cluster is an in-process Kafka cluster of one broker. It stores what is
// acknowledged in memory until it is closed, or in a folder for the next one.
type Cluster struct {
	fake *kfake.Cluster
	lock *os.File // of the folder; nil: in memory
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

// StartIn is [Start] with a folder, made if missing, in which topics, records and
// groups are kept: a cluster that is started there later goes on with them, on another
// port. The topics are those of the first start. Records are in files when they are
// acknowledged, so they outlive the process, however it ends, but maybe not the
// machine. The folder belongs to one cluster at a time.
func StartIn(dir string, topics []Topic, options ...kfake.Opt) (*Cluster, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start in-process kafka: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start in-process kafka: %w", err)
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("start in-process kafka in %s: %w", dir, err)
	}
	c, err := Start(topics, append([]kfake.Opt{kfake.DataDir(filepath.Join(dir, "log"))}, options...)...)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	c.lock = lock
	return c, nil
}

// Addrs returns the bootstrap addresses, host:port.
func (c *Cluster) Addrs() []string { return c.fake.ListenAddrs() }

// Kfake returns the cluster itself, to inject faults with its Control functions.
func (c *Cluster) Kfake() *kfake.Cluster { return c.fake }

// Close stops the cluster. What it holds is forgotten, unless it has a folder.
func (c *Cluster) Close() {
	c.fake.Close()
	if c.lock != nil {
		_ = c.lock.Close() // gives the lock back
	}
}
