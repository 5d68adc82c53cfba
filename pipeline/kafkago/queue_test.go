package kafkago

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/pipeline"
)

// failing makes a broker refuse to store anything, with NotEnoughReplicas, for as
// long as the returned flag is set. seen counts produce requests.
func (b *broker) failing(t testing.TB) (fails *atomic.Bool, seen *atomic.Int64) {
	t.Helper()
	fails, seen = &atomic.Bool{}, &atomic.Int64{}
	fails.Store(true)
	k := b.fake.Kfake()
	k.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		seen.Add(1)
		if !fails.Load() {
			return nil, nil, false
		}
		res, err := produceAnswer(kerr.NotEnoughReplicas)(req.(*kmsg.ProduceRequest))
		return res, err, true
	})
	return fails, seen
}

// stock returns the queue of a partition, once there is one.
func (p *Producer) stock(topic string, partition int) *queue {
	p.mu.Lock()
	t := p.topics[topic]
	p.mu.Unlock()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if partition >= len(t.queues) {
		return nil
	}
	return t.queues[partition]
}

// waiting is the number of pieces in the open batch.
func (q *queue) waiting() int {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		return 0
	}
	return len(q.open.pieces)
}

func (q *queue) busy() bool {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.underway > 0
}

// While a request to a partition is under way, calls gather, and then go together,
// each in its own order.
func TestTrap14CallsShareRequests(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	fails, seen := b.failing(t)
	p := b.producer(t, func(c *ProducerConfig) {
		c.Linger = time.Second
		c.RetryBackoff = 300 * time.Millisecond
		c.Logger = nil
	})
	const callers, each = 50, 20
	var calls sync.WaitGroup
	produce := func(caller int) {
		var outputs []pipeline.Output
		for i := range each {
			outputs = append(outputs, pipeline.Output{Topic: topic, Key: fmt.Append(nil, caller), Value: fmt.Append(nil, i)})
		}
		if err := p.Produce(context.WithoutCancel(t.Context()), outputs); err != nil {
			t.Error(err)
		}
	}
	calls.Go(func() { produce(0) })
	eventually(t, "the first request is under way", func() bool { return seen.Load() > 0 })
	for caller := 1; caller < callers; caller++ {
		calls.Go(func() { produce(caller) })
	}
	eventually(t, "the others gather", func() bool { return p.stock(topic, 0).waiting() == callers-1 })
	fails.Store(false)
	calls.Wait()
	require.EqualValues(t, 2, p.Stats().Requests, "one for the first call, one for all others")
	require.EqualValues(t, callers*each, p.Stats().Records)
	next := map[string]int{}
	for _, r := range b.readAll(t, topic, callers*each)[0] {
		require.Equal(t, fmt.Sprint(next[string(r.Key)]), string(r.Value), "the order within a call is kept")
		next[string(r.Key)]++
	}
	require.Len(t, next, callers)
}

// A request that does not come to an end does not hold back what follows for
// longer than Linger, and nothing waits that has no request before it.
func TestLingerIsBounded(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	fails, seen := b.failing(t)
	p := b.producer(t, func(c *ProducerConfig) {
		c.Linger = 20 * time.Millisecond
		c.RetryBackoff = 20 * time.Second
		c.Logger = nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1) // capacity 1: written once
	go func() {
		first <- p.Produce(ctx, []pipeline.Output{{Topic: topic, Value: []byte("first")}})
	}()
	eventually(t, "the first request has failed and will be repeated", func() bool { return seen.Load() == 1 })
	fails.Store(false)
	began := time.Now()
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Value: []byte("second")}}))
	require.Less(t, time.Since(began), 5*time.Second)
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
}

// What is wrong with one call's outputs is that call's business.
func TestSharedRequestsHaveTheirOwnResults(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1, "max.message.bytes", "20000")
	fails, seen := b.failing(t)
	p := b.producer(t, func(c *ProducerConfig) {
		c.Linger = time.Second
		c.RetryBackoff = 300 * time.Millisecond
		c.Compression = "none"
		c.Logger = nil
	})
	outputs := func(name string, sizes ...int) []pipeline.Output {
		var out []pipeline.Output
		for _, size := range sizes {
			out = append(out, pipeline.Output{Topic: topic, Key: []byte(name), Value: make([]byte, size)})
		}
		return out
	}
	var calls sync.WaitGroup
	results := map[string]error{}
	var mu sync.Mutex
	produce := func(name string, ctx context.Context, sizes ...int) {
		calls.Go(func() {
			err := p.Produce(ctx, outputs(name, sizes...))
			mu.Lock()
			defer mu.Unlock()
			results[name] = err
		})
	}
	leaving, leave := context.WithCancel(t.Context())
	produce("first", t.Context(), 10)
	eventually(t, "the first request is under way", func() bool { return seen.Load() > 0 })
	produce("good", t.Context(), 1000, 1000, 1000)
	produce("large", t.Context(), 1000, 30_000, 1000)
	produce("left", leaving, 1000, 25_000)
	produce("fine", t.Context(), 1000, 1000)
	eventually(t, "they gather", func() bool { return p.stock(topic, 0).waiting() == 4 })
	leave()
	eventually(t, "who leaves need not wait for the others", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return results["left"] != nil
	})
	fails.Store(false)
	calls.Wait()
	require.NoError(t, results["first"])
	require.NoError(t, results["good"])
	require.NoError(t, results["fine"])
	require.ErrorIs(t, results["left"], context.Canceled)
	var failed *pipeline.ProduceError
	require.ErrorAs(t, results["left"], &failed)
	require.Len(t, failed.Failed, 2)
	require.ErrorAs(t, results["large"], &failed)
	require.Len(t, failed.Failed, 1)
	require.Equal(t, 1, failed.Failed[0].Index)
	require.True(t, failed.Permanent())
	require.ErrorIs(t, failed.Failed[0].Err, kafka.MessageSizeTooLarge)
	stored := map[string]int{}
	for _, r := range b.readAll(t, topic, 8)[0] {
		stored[string(r.Key)]++
	}
	require.Equal(t, map[string]int{"first": 1, "good": 3, "large": 2, "fine": 2}, stored)
	require.EqualValues(t, 1, p.Stats().Refused)
}

// A call that has returned has its buffers back, whatever becomes of the request
// it shares. (Under the race detector this finds every late reader.)
func TestLeftOutputsAreNotRead(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	k := b.fake.Kfake()
	var n atomic.Int64
	k.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if n.Add(1)%3 == 0 {
			return nil, nil, false
		}
		res, err := produceAnswer(kerr.NotLeaderForPartition)(req.(*kmsg.ProduceRequest))
		return res, err, true
	})
	p := b.producer(t, func(c *ProducerConfig) { c.RetryBackoff = time.Millisecond; c.Logger = nil })
	var calls sync.WaitGroup
	var stored atomic.Int64
	for caller := range 8 {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 1))
			outputs := make([]pipeline.Output, 50)
			for range 30 {
				for i := range outputs {
					outputs[i] = pipeline.Output{Topic: topic, Key: []byte("same"), Value: []byte("same")}
				}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Duration(random.IntN(8))*time.Millisecond)
				if err := p.Produce(ctx, outputs); err == nil {
					stored.Add(int64(len(outputs)))
				}
				cancel()
				for i := range outputs {
					copy(outputs[i].Key, "XXXX")
					copy(outputs[i].Value, "XXXX")
					outputs[i] = pipeline.Output{}
				}
			}
		})
	}
	calls.Wait()
	require.Positive(t, stored.Load())
	count := 0
	for _, records := range b.readAll(t, topic, int(stored.Load())) {
		for _, r := range records {
			require.Equal(t, "same", string(r.Key))
			require.Equal(t, "same", string(r.Value))
			count++
		}
	}
	require.GreaterOrEqual(t, count, int(stored.Load()))
}

// Trap 15: bytes in flight are bounded over all calls, and waiting for room heeds
// the context.
func TestTrap15BytesInFlightAreBounded(t *testing.T) {
	b := fakeBroker(t)
	const partitions, callers, size = 8, 32, 3000
	topic := b.topic(t, partitions)
	fails, seen := b.failing(t)
	p := b.producer(t, func(c *ProducerConfig) {
		c.MaxRequestBytes, c.MaxInFlightBytes = 10_000, 10_000
		c.RetryBackoff = 5 * time.Millisecond
		c.Logger = nil
	})
	var calls sync.WaitGroup
	for caller := range callers {
		calls.Go(func() {
			if err := p.Produce(context.WithoutCancel(t.Context()), []pipeline.Output{{Topic: topic, Key: fmt.Append(nil, caller), Value: make([]byte, size)}}); err != nil {
				t.Error(err)
			}
		})
	}
	inFlight := func() int {
		total := 0
		for partition := range partitions {
			if q := p.stock(topic, partition); q != nil {
				q.mu.Lock()
				total += q.underway
				if q.open != nil {
					total += len(q.open.pieces)
				}
				q.mu.Unlock()
			}
		}
		return total
	}
	eventually(t, "the room is taken", func() bool { return seen.Load() > 30 && !p.budget.TryAcquire(5000) })
	require.LessOrEqual(t, inFlight(), 3, "three records of 3 kB fit into 10 kB")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := p.Produce(ctx, []pipeline.Output{{Topic: topic, Value: make([]byte, size)}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "waiting for")
	fails.Store(false)
	calls.Wait()
	// A record larger than the whole room goes alone.
	require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: topic, Key: []byte("k"), Value: make([]byte, 20_000)}}))
	eventually(t, "all room is given back", func() bool {
		if !p.budget.TryAcquire(10_000) {
			return false
		}
		p.budget.Release(10_000)
		return true
	})
	require.EqualValues(t, callers+1, p.Stats().Records)
}

// A failure that repeating does not cure ends every call that shares the request.
func TestFatalFailureEndsAllThatShare(t *testing.T) {
	b := fakeBroker(t)
	topic := b.topic(t, 1)
	k := b.fake.Kfake()
	var first atomic.Bool
	release := make(chan struct{})
	k.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if first.CompareAndSwap(false, true) {
			<-release
		}
		res, err := produceAnswer(kerr.TopicAuthorizationFailed)(req.(*kmsg.ProduceRequest))
		return res, err, true
	})
	p := b.producer(t, func(c *ProducerConfig) { c.Linger = time.Second })
	var calls sync.WaitGroup
	for range 5 {
		calls.Go(func() {
			err := p.Produce(context.WithoutCancel(t.Context()), []pipeline.Output{{Topic: topic, Value: []byte("v")}, {Topic: topic, Value: []byte("w")}})
			var failed *pipeline.ProduceError
			if !errors.As(err, &failed) || len(failed.Failed) != 2 || failed.Permanent() {
				t.Errorf("unexpected result: %v", err)
			}
		})
		eventually(t, "the first one is under way", func() bool { return p.stock(topic, 0).busy() })
	}
	close(release)
	calls.Wait()
	require.EqualValues(t, 10, p.Stats().Abandoned)
}
