package kafkago

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/semaphore"

	"sortition/pipeline"
)

// acks is not an option: an output counts as stored when all in-sync replicas
// have it. (The zero value of kafka-go's type means "do not even answer".)
const acks = kafka.RequireAll

// ProducerConfig configures a [Producer].
type ProducerConfig struct {
	Connection Connection
	// Topics are the topics that will be written to. They share connections, and
	// metadata is asked for them only. A topic that is not listed works too, with
	// connections of its own.
	Topics []string
	// Compression of record batches: "none", "gzip", "snappy", "lz4" or "zstd".
	// Default "zstd".
	Compression string
	// MaxRequestBytes bounds the uncompressed records of one request, so that it
	// stays below the broker's message.max.bytes (1,048,588 by default) even if
	// nothing can be compressed. A single larger record is sent alone. Default
	// 1,000,000; from 1 kB to 100 MB.
	MaxRequestBytes int
	// Linger is how long outputs may wait while another request to their partition
	// is under way, so that calls share requests. An idle partition is written to
	// at once, whatever it is. Default 5 ms; negative: nothing waits or is shared;
	// at most 1 s.
	Linger time.Duration
	// MaxInFlightBytes bounds the uncompressed records handed to brokers and not
	// yet answered for, over all calls; calls wait for room. A single larger record
	// goes alone. Default 64 MiB; at least MaxRequestBytes, at most 2 GB.
	MaxInFlightBytes int
	// RequestTimeout bounds one request; the broker gets half of it to collect
	// its acknowledgements. Default 20 s.
	RequestTimeout time.Duration
	// RetryTimeout bounds one call of Produce with all its repetitions. Default
	// 30 s. The context of the call may end it earlier.
	RetryTimeout time.Duration
	// RetryBackoff is the pause before the first repetition; it doubles with each
	// further one, up to 1 s or RetryBackoff, whichever is longer. Default 50 ms.
	RetryBackoff time.Duration
	// Logger receives a line when a partition starts to fail and when it
	// recovers. Default: discards.
	Logger *slog.Logger
}

// Producer stores outputs in Kafka topics, implementing [pipeline.Producer].
//
// Outputs of one call are grouped by partition; partitions are written side by
// side, each one in order. Calls share requests (see Linger). Keyed outputs go to
// the partition the Java client would choose, outputs without a key to one
// partition per call, in turn. Safe for concurrent use.
type Producer struct {
	cfg     ProducerConfig
	codec   *codec
	shared  *link               // for cfg.Topics
	budget  *semaphore.Weighted // of MaxInFlightBytes
	running sync.WaitGroup      // batches being sent

	mu     sync.Mutex // guards the fields below
	topics map[string]*topicQueues
	closed bool

	turn  atomic.Uint32 // counts calls, to spread outputs without a key
	stats producerCounters
}

var _ pipeline.Producer = (*Producer)(nil)

// ProducerStats are running totals since the Producer was made.
type ProducerStats struct {
	Requests  uint64 // produce requests answered with success
	Records   uint64 // records stored
	Retries   uint64 // repetitions after a transient failure
	Refused   uint64 // records no broker will ever take
	Abandoned uint64 // records given up for now (RetryTimeout, cancellation)
}

// topicQueues are the queues of a topic's partitions.
type topicQueues struct {
	name string
	link *link

	mu      sync.Mutex // guards the fields below
	queues  []*queue   // by partition; grows with the topic
	counted time.Time  // when the partitions were last counted
}

type producerCounters struct {
	requests, records, retries, refused, abandoned atomic.Uint64
}

// NewProducer checks cfg. It connects to nothing.
func NewProducer(cfg ProducerConfig) (*Producer, error) {
	if cfg.Compression == "" {
		cfg.Compression = "zstd"
	}
	if cfg.MaxRequestBytes == 0 {
		cfg.MaxRequestBytes = 1_000_000
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 20 * time.Second
	}
	if cfg.RetryTimeout == 0 {
		cfg.RetryTimeout = 30 * time.Second
	}
	if cfg.RetryBackoff == 0 {
		cfg.RetryBackoff = 50 * time.Millisecond
	}
	if cfg.Linger == 0 {
		cfg.Linger = 5 * time.Millisecond
	}
	if cfg.MaxInFlightBytes == 0 {
		cfg.MaxInFlightBytes = max(64<<20, cfg.MaxRequestBytes)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	p := &Producer{cfg: cfg, topics: map[string]*topicQueues{}, budget: semaphore.NewWeighted(int64(cfg.MaxInFlightBytes))}
	var compression kafka.Compression
	if cfg.Compression != "none" {
		if err := compression.UnmarshalText([]byte(cfg.Compression)); err != nil {
			faults = append(faults, fmt.Errorf("unknown compression %q (known: none, gzip, snappy, lz4, zstd)", cfg.Compression))
		}
	}
	if cfg.MaxRequestBytes < 1000 || cfg.MaxRequestBytes > 100_000_000 {
		faults = append(faults, fmt.Errorf("MaxRequestBytes %d is outside 1,000 to 100,000,000", cfg.MaxRequestBytes))
	}
	if cfg.MaxInFlightBytes < cfg.MaxRequestBytes || cfg.MaxInFlightBytes > 2_000_000_000 {
		faults = append(faults, fmt.Errorf("MaxInFlightBytes %d is outside MaxRequestBytes (%d) to 2,000,000,000", cfg.MaxInFlightBytes, cfg.MaxRequestBytes))
	}
	if cfg.Linger > time.Second {
		faults = append(faults, fmt.Errorf("longer than a second: Linger %s", cfg.Linger))
	}
	if cfg.RequestTimeout < 0 || cfg.RetryTimeout < 0 || cfg.RetryBackoff < 0 {
		faults = append(faults, errors.New("RequestTimeout, RetryTimeout and RetryBackoff cannot be negative"))
	}
	var err error
	if p.codec, err = newCodec(compression); err != nil {
		faults = append(faults, err)
	}
	// No topics would mean the metadata of all of them.
	if p.shared, err = cfg.Connection.open(append([]string{}, cfg.Topics...), cfg.RequestTimeout); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("kafka producer: %w", errors.Join(faults...))
	}
	return p, nil
}

// Stats returns the totals so far.
func (p *Producer) Stats() ProducerStats {
	return ProducerStats{
		Requests:  p.stats.requests.Load(),
		Records:   p.stats.records.Load(),
		Retries:   p.stats.retries.Load(),
		Refused:   p.stats.refused.Load(),
		Abandoned: p.stats.abandoned.Load(),
	}
}

// Close gives up the connections. Call it when no Produce is under way.
func (p *Producer) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	topics := p.topics
	p.mu.Unlock()
	if !closed {
		p.shared.close()
		for _, t := range topics {
			if t.link != p.shared {
				t.link.close()
			}
		}
	}
	p.running.Wait() // for batches whose calls have left
	return nil
}

// topic returns a topic's queues, none of which it has at first.
func (p *Producer) topic(name string) (*topicQueues, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	t := p.topics[name]
	if t == nil {
		t = &topicQueues{name: name, link: p.shared}
		if !slices.Contains(p.cfg.Topics, name) {
			var err error
			if t.link, err = p.cfg.Connection.open([]string{name}, p.cfg.RequestTimeout); err != nil {
				return nil, err
			}
		}
		p.topics[name] = t
	}
	return t, nil
}

// Produce stores outputs and returns nil when the broker has confirmed every one
// of them; otherwise a [*pipeline.ProduceError].
//
// When a partition fails, its later outputs are not sent, so that none overtakes
// another: they are named in the error too. A request whose answer is lost is
// sent again and may be stored twice.
func (p *Producer) Produce(ctx context.Context, outputs []pipeline.Output) error {
	if len(outputs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.RetryTimeout)
	defer cancel()

	c := &call{ctx: ctx, outputs: outputs}
	shares := splitByTopic(outputs)
	var others sync.WaitGroup
	for _, s := range shares[1:] {
		others.Go(func() { p.produceTopic(c, s) })
	}
	p.produceTopic(c, shares[0])
	others.Wait()
	return c.failed.err()
}

// share is the part of a call's outputs that goes one way.
type share struct {
	topic   string
	indexes []int32
}

func splitByTopic(outputs []pipeline.Output) []*share {
	var shares []*share
	var last *share
	for i := range outputs {
		if last == nil || last.topic != outputs[i].Topic {
			// A call has a handful of topics: a scan beats a map.
			at := slices.IndexFunc(shares, func(s *share) bool { return s.topic == outputs[i].Topic })
			if at < 0 {
				at = len(shares)
				shares = append(shares, &share{topic: outputs[i].Topic})
			}
			last = shares[at]
		}
		last.indexes = append(last.indexes, int32(i))
	}
	return shares
}

func (p *Producer) produceTopic(c *call, s *share) {
	t, err := p.topic(s.topic)
	if err != nil {
		p.abandon(c, s.indexes, err)
		return
	}
	queues, err := p.queues(c.ctx, t)
	if err != nil {
		p.abandon(c, s.indexes, err)
		return
	}
	var long sync.WaitGroup
	pieces := make([]*piece, len(queues))
	for partition, indexes := range p.splitByPartition(c.outputs, s.indexes, len(queues)) {
		if len(indexes) == 0 {
			continue
		}
		q := queues[partition]
		n, size := p.cut(c, indexes)
		if n < len(indexes) {
			long.Go(func() { p.produceTo(c, q, indexes) })
			continue
		}
		if pieces[partition], err = p.enter(c, q, indexes, size); err != nil {
			p.abandon(c, indexes, err)
		}
	}
	for partition, pc := range pieces {
		if pc != nil {
			_ = p.finish(queues[partition], pc)
		}
	}
	long.Wait()
}

// splitByPartition returns the indexes for each of n partitions, in order.
func (p *Producer) splitByPartition(outputs []pipeline.Output, indexes []int32, n int) [][]int32 {
	unkeyed := int(p.turn.Add(1)-1) % n
	chosen := make([]int32, len(indexes))
	counts := make([]int, n)
	for i, at := range indexes {
		partition := unkeyed
		if key := outputs[at].Key; key != nil {
			partition = keyPartition(key, n)
		}
		chosen[i] = int32(partition)
		counts[partition]++
	}
	backing := make([]int32, 0, len(indexes))
	split := make([][]int32, n)
	for partition, count := range counts {
		split[partition] = backing[len(backing) : len(backing) : len(backing)+count]
		backing = backing[:len(backing)+count]
	}
	for i, at := range indexes {
		split[chosen[i]] = append(split[chosen[i]], at)
	}
	return split
}

// partitionsTTL is how long a count of partitions is believed. Counting builds
// kafka-go's whole answer anew.
const partitionsTTL = time.Second

// queues returns the queues of all partitions of a topic, waiting for a topic that
// is just being created.
func (p *Producer) queues(ctx context.Context, t *topicQueues) ([]*queue, error) {
	t.mu.Lock()
	queues, fresh := t.queues, time.Since(t.counted) < partitionsTTL
	t.mu.Unlock()
	if fresh {
		return queues, nil
	}
	for pause := (backoff{min: p.cfg.RetryBackoff}); ; {
		n, err := countPartitions(ctx, t.link, t.name)
		if err == nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			// The slice that others hold does not change. A topic that has been
			// made anew with fewer partitions loses queues, not batches.
			queues := slices.Clone(t.queues[:min(n, len(t.queues))])
			for len(queues) < n {
				queues = append(queues, &queue{producer: p, link: t.link, topic: t.name, partition: len(queues)})
			}
			t.queues, t.counted = queues, time.Now()
			return queues, nil
		}
		if classify(err) == classFatal || !pause.wait(ctx) {
			return nil, fmt.Errorf("produce to %s: %w", t.name, err)
		}
	}
}

// countPartitions answers from metadata that is at most a few seconds old.
func countPartitions(ctx context.Context, l *link, topic string) (int, error) {
	res, err := l.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, fmt.Errorf("ask for partitions of %s: %w", topic, err)
	}
	for _, t := range res.Topics {
		if t.Name != topic {
			continue
		}
		if t.Error != nil && !errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
			return 0, &TopicMissingError{Topic: topic, Err: t.Error}
		}
		if len(t.Partitions) > 0 {
			return len(t.Partitions), nil
		}
	}
	return 0, &TopicMissingError{Topic: topic}
}

// failures collects failed outputs from several goroutines.
type failures struct {
	mu   sync.Mutex // guards list
	list []pipeline.FailedOutput
}

func (f *failures) add(indexes []int32, permanent bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range indexes {
		f.list = append(f.list, pipeline.FailedOutput{Index: int(i), Permanent: permanent, Err: err})
	}
}

func (f *failures) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortFunc(f.list, func(a, b pipeline.FailedOutput) int { return a.Index - b.Index })
	return &pipeline.ProduceError{Failed: f.list}
}
