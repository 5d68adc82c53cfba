package kafkago

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// BenchmarkCopy moves records from one topic to another, through Subscriber and
// Producer and, beside it, with the barest loop over kafka-go's Client there can
// be: it groups nothing, commits nothing and keeps partitions as they are. Both
// ask for acks=all and use the same codec. Compare records/s within one run. The
// broker is in-process, or the one of SORTITION_KAFKA.
func BenchmarkCopy(b *testing.B) {
	const n, partitions = 500_000, 4
	var br *broker
	if addrs := os.Getenv(kafkatest.EnvKafka); addrs != "" {
		br = &broker{addrs: strings.Split(addrs, ",")}
	} else {
		br = fakeBroker(b)
	}
	for _, codec := range []string{"none", "zstd"} {
		in := br.topic(b, partitions)
		br.fill(b, in, n, codec)
		b.Run(codec+"/bare", func(b *testing.B) {
			var cpu cpuMeter
			for b.Loop() {
				b.StopTimer()
				out := br.topic(b, partitions)
				b.StartTimer()
				cpu.start()
				br.copyBare(b, in, out, codec, n, partitions)
				cpu.stop()
			}
			cpu.report(b, n)
		})
		b.Run(codec+"/kafkago", func(b *testing.B) {
			var cpu cpuMeter
			for b.Loop() {
				b.StopTimer()
				out := br.topic(b, partitions)
				b.StartTimer()
				cpu.start()
				br.copyThrough(b, in, out, codec, n)
				cpu.stop()
			}
			cpu.report(b, n)
		})
	}
}

// cpuMeter adds up the processor time of this process, which other work on the
// machine disturbs less than the time that passes. With a broker in the process it
// includes the broker's.
type cpuMeter struct{ total, began time.Duration }

func (*cpuMeter) now() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (c *cpuMeter) start() { c.began = c.now() }
func (c *cpuMeter) stop()  { c.total += c.now() - c.began }

func (c *cpuMeter) report(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(c.total.Nanoseconds())/float64(n)/float64(b.N), "cpu-ns/record")
}

// fill writes n keyed records of 220 bytes that look like activities.
func (b *broker) fill(t testing.TB, topic string, n int, codec string) {
	p := b.producer(t, func(c *ProducerConfig) { c.Compression = codec })
	for i := 0; i < n; {
		var outputs []pipeline.Output
		for range 5000 {
			value := fmt.Appendf(nil, `{"user_id":"user-%d","timestamp":%d,"attributes":{"plan":"gold","visits":%d,"country":"NL"},"decide":"*"}`, i*7919%1_000_003, 1_790_000_000_000+i, i%97)
			for len(value) < 210 {
				value = append(value, ' ')
			}
			outputs = append(outputs, pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "user-%d", i*7919%1_000_003), Value: value})
			i++
		}
		require.NoError(t, p.Produce(t.Context(), outputs))
	}
}

func (b *broker) copyThrough(t testing.TB, in, out, codec string, n int) {
	s := b.subscriber(t, b.name(t, "group"))
	p := b.producer(t, func(c *ProducerConfig) { c.Compression = codec })
	messages := subscribe(t, s, in)
	var copied atomic.Int64
	done := make(chan struct{})
	go func() {
		var handlers sync.WaitGroup
		defer handlers.Wait()
		for m := range messages {
			handlers.Go(func() {
				batch, _ := pipeline.BatchOf(m)
				outputs := make([]pipeline.Output, len(batch.Records))
				for i, r := range batch.Records {
					outputs[i] = pipeline.Output{Topic: out, Key: r.Key, Value: r.Value, Time: r.Time}
				}
				if err := p.Produce(m.Context(), outputs); err != nil {
					t.Error(err)
				}
				m.Ack()
				if copied.Add(int64(len(outputs))) == int64(n) {
					close(done)
				}
			})
		}
	}()
	<-done
	require.NoError(t, s.Close())
}

func (b *broker) copyBare(t testing.TB, in, out, codec string, n, partitions int) {
	transport := &kafka.Transport{MetadataTopics: []string{in, out}}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport, Timeout: 20 * time.Second}
	var compression kafka.Compression
	if codec != "none" {
		require.NoError(t, compression.UnmarshalText([]byte(codec)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var copied atomic.Int64
	var loops sync.WaitGroup
	for partition := range partitions {
		loops.Go(func() {
			for next := int64(0); ctx.Err() == nil; {
				res, err := client.Fetch(ctx, &kafka.FetchRequest{Topic: in, Partition: partition, Offset: next,
					MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond})
				if err != nil || res.Error != nil {
					continue
				}
				records := &passing{from: res.Records, next: next}
				first, err := records.from.ReadRecord()
				if err != nil {
					continue
				}
				records.first = first
				if _, err = client.Produce(ctx, &kafka.ProduceRequest{Topic: out, Partition: partition, RequiredAcks: kafka.RequireAll,
					Records: records, Compression: compression}); err != nil {
					t.Error(err)
					cancel()
					return
				}
				next = records.next
				if copied.Add(records.count) == int64(n) {
					cancel()
				}
			}
		})
	}
	loops.Wait()
}

// passing hands a fetch's records to a produce as they are.
type passing struct {
	from  kafka.RecordReader
	first *kafka.Record
	next  int64
	count int64
}

func (p *passing) ReadRecord() (*kafka.Record, error) {
	for {
		r := p.first
		p.first = nil
		if r == nil {
			var err error
			if r, err = p.from.ReadRecord(); err != nil {
				if errors.Is(err, io.EOF) {
					return nil, io.EOF
				}
				return nil, err
			}
		}
		if r.Offset < p.next {
			continue
		}
		p.next = r.Offset + 1
		p.count++
		return r, nil
	}
}

// BenchmarkLinger produces from many goroutines, each with calls of its own over all
// partitions, as the handlers of many input partitions do. "off" sends a request per
// call and partition.
func BenchmarkLinger(b *testing.B) {
	const callers, partitions, n = 16, 6, 200_000
	var br *broker
	if addrs := os.Getenv(kafkatest.EnvKafka); addrs != "" {
		br = &broker{addrs: strings.Split(addrs, ",")}
	} else {
		br = fakeBroker(b)
	}
	for _, perCall := range []int{20, 200, 1000} {
		for _, linger := range []time.Duration{-1, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
			name := linger.String()
			if linger < 0 {
				name = "off"
			}
			b.Run(fmt.Sprintf("%d/%s", perCall, name), func(b *testing.B) {
				calls := 0
				for b.Loop() {
					b.StopTimer()
					topic := br.topic(b, partitions)
					p := br.producer(b, func(c *ProducerConfig) { c.Linger = linger; c.Topics = []string{topic} })
					require.NoError(b, p.Produce(b.Context(), []pipeline.Output{{Topic: topic, Value: []byte("warm up")}}))
					b.StartTimer()
					var all sync.WaitGroup
					for caller := range callers {
						all.Go(func() {
							outputs := make([]pipeline.Output, perCall)
							for i := 0; i < n/callers; {
								for at := range outputs {
									outputs[at] = pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "user-%d-%d", caller, i), Value: fmt.Appendf(nil,
										`{"id":"%d","user_id":"user-%d-%d","decisions":[{"flag_key":"checkout","enabled":true,"variation_key":"treatment","rule_key":"checkout_test","variables":{"color":"red"}}]}`, i*7919, caller, i)}
									i++
								}
								if err := p.Produce(context.Background(), outputs); err != nil {
									b.Error(err)
								}
							}
						})
					}
					all.Wait()
					b.StopTimer()
					calls += int(p.Stats().Requests)
					b.StartTimer()
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(float64(calls)/float64(b.N), "requests/op")
			})
		}
	}
}
