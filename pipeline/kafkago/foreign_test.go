package kafkago

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// kcat runs librdkafka's command line client, a client nobody here has written, and
// returns what it prints.
func (b *broker) kcat(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, kafkatest.Tool(t, "kcat"), append([]string{"-b", strings.Join(b.addrs, ",")}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	return stdout.String()
}

// fetchCodecs are all compressions a foreign client may use.
var fetchCodecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// librdkafka writes, we read: every codec, keys, headers, tombstones; and its
// murmur2 partitioner agrees with ours.
func TestForeignProducer(t *testing.T) {
	kafkatest.Tool(t, "kcat")
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 600, 7
		for _, codec := range fetchCodecs {
			t.Run(codec, func(t *testing.T) {
				topic := b.topic(t, partitions)
				var lines strings.Builder
				want := map[string]string{}
				for i := range n {
					// All lengths of the tail of murmur2, and bytes beyond ASCII.
					key := fmt.Sprintf("%s-%d", strings.Repeat("ü", i%5), i)
					want[key] = strings.Repeat(fmt.Sprint("value ", i, " "), i%20)
					fmt.Fprintf(&lines, "%s:%s\n", key, want[key])
				}
				b.kcat(t, lines.String(), "-P", "-t", topic, "-K:", "-Z", "-z", codec, "-X", "partitioner=murmur2_random",
					"-H", "one=1", "-H", "two=2", "-H", "one=3")
				s := b.subscriber(t, b.name(t, "group"))
				messages := subscribe(t, s, topic)
				for len(want) > 0 {
					m := receive(t, messages)
					batch := batchOf(t, m)
					for _, r := range batch.Records {
						value, ok := want[string(r.Key)]
						require.True(t, ok, "%q came twice, or never was", r.Key)
						delete(want, string(r.Key))
						if value == "" {
							require.Nil(t, r.Value, "a tombstone")
						}
						require.Equal(t, value, string(r.Value))
						require.Equal(t, []pipeline.Header{{Key: "one", Value: []byte("1")}, {Key: "two", Value: []byte("2")}, {Key: "one", Value: []byte("3")}}, r.Headers)
						require.Equal(t, keyPartition(r.Key, partitions), int(batch.Partition), "the partition of %q", r.Key)
						require.WithinDuration(t, time.Now(), r.Time, time.Hour)
					}
					m.Ack()
				}
			})
		}
	})
}

// We write, librdkafka reads.
func TestForeignConsumer(t *testing.T) {
	kafkatest.Tool(t, "kcat")
	onBrokers(t, func(t *testing.T, b *broker) {
		const n, partitions = 300, 5
		for _, codec := range fetchCodecs {
			t.Run(codec, func(t *testing.T) {
				topic := b.topic(t, partitions)
				at := time.UnixMilli(1_790_000_000_000)
				var outputs []pipeline.Output
				for i := range n {
					outputs = append(outputs, pipeline.Output{Topic: topic, Key: fmt.Appendf(nil, "ключ-%d", i), Value: bytes.Repeat(fmt.Append(nil, i, " "), 30),
						Headers: []pipeline.Header{{Key: "sortition-id", Value: fmt.Append(nil, i)}, {Key: "n", Value: []byte("x")}}, Time: at})
				}
				require.NoError(t, b.producer(t, func(c *ProducerConfig) { c.Compression = codec }).Produce(t.Context(), outputs))
				printed := json.NewDecoder(strings.NewReader(b.kcat(t, "", "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J")))
				seen := map[string]bool{}
				for {
					var r struct {
						Partition int      `json:"partition"`
						TS        int64    `json:"ts"`
						Key       string   `json:"key"`
						Payload   string   `json:"payload"`
						Headers   []string `json:"headers"`
					}
					err := printed.Decode(&r)
					if errors.Is(err, io.EOF) {
						break
					}
					require.NoError(t, err)
					i := 0
					_, err = fmt.Sscanf(r.Key, "ключ-%d", &i)
					require.NoError(t, err)
					require.Equal(t, strings.Repeat(fmt.Sprint(i, " "), 30), r.Payload)
					require.Equal(t, []string{"sortition-id", fmt.Sprint(i), "n", "x"}, r.Headers)
					require.Equal(t, at.UnixMilli(), r.TS)
					require.Equal(t, keyPartition([]byte(r.Key), partitions), r.Partition)
					require.False(t, seen[r.Key], "%s came twice", r.Key)
					seen[r.Key] = true
				}
				require.Len(t, seen, n)
			})
		}
	})
}

// Trap 11, with transactions of librdkafka: one that is committed, one whose
// producer dies and is fenced by its successor, which aborts it, and plain records
// between.
func TestTrap11ForeignTransactions(t *testing.T) {
	tool := kafkatest.Tool(t, "kcat")
	onBrokers(t, func(t *testing.T, b *broker) {
		topic, group, id := b.topic(t, 1), b.name(t, "group"), b.name(t, "tx")
		l, err := b.connection().open([]string{topic}, coordinatorTimeout)
		require.NoError(t, err)
		defer l.close()
		end := func() int64 {
			ends := map[int32]int64{}
			if l.listOffsets(t.Context(), topic, []int32{0}, -1, ends) != nil {
				return -1
			}
			return ends[0]
		}
		lines := func(what string, n int) string {
			var all strings.Builder
			for i := range n {
				fmt.Fprintf(&all, "%s:%d\n", what, i)
			}
			return all.String()
		}
		transact := func(what string, n int) {
			b.kcat(t, lines(what, n), "-P", "-t", topic, "-K:", "-X", "transactional.id="+id)
		}
		transact("committed", 300)
		before := end()
		for round := range 3 {
			// kcat reads ahead: it must be given much, and no end, to have an
			// unfinished transaction in the log.
			dying := exec.Command(tool, "-b", strings.Join(b.addrs, ","), "-P", "-t", topic, "-K:", "-X", "transactional.id="+id)
			var said bytes.Buffer
			dying.Stderr = &said
			stdin, err := dying.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, dying.Start())
			_, err = io.WriteString(stdin, lines("aborted", 5000))
			require.NoError(t, err)
			if !assert.Eventually(t, func() bool { return end() > before+1000 }, patience, 5*time.Millisecond) {
				_ = dying.Process.Kill()
				_ = dying.Wait()
				require.FailNow(t, "the unfinished transaction is not in the log", "kcat says: %s", said.String())
			}
			b.kcat(t, lines("plain", 50), "-P", "-t", topic, "-K:")
			require.NoError(t, dying.Process.Kill())
			_ = dying.Wait()
			transact(fmt.Sprint("successor-", round), 40)
			before = end()
		}
		s := b.subscriber(t, group, func(c *SubscriberConfig) { c.FetchAheadBytes = 4096 })
		messages := subscribe(t, s, topic)
		got := map[string]int{}
		for seen := 0; seen < 300+3*90; {
			m := receive(t, messages)
			for _, r := range batchOf(t, m).Records {
				got[string(r.Key)]++
				seen++
			}
			m.Ack()
		}
		eventually(t, "the offset has passed markers and aborted records", func() bool {
			// Markers are written after the producer has its answer.
			return s.Stats().Markers == 4+3 && b.committed(t, group, topic, 1)[0] == end()
		})
		require.Equal(t, map[string]int{"committed": 300, "plain": 150, "successor-0": 40, "successor-1": 40, "successor-2": 40}, got)
		require.GreaterOrEqual(t, s.Stats().Aborted, uint64(3000))
	})
}
