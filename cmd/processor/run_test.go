package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/internal/kafkatest"
	"sortition/internal/sample"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
	"sortition/schemas"
)

// patience is how long tests wait for what must happen.
const patience = 90 * time.Second

// onBrokers runs the test on an in-process broker, and on a real Kafka where
// there is one.
func onBrokers(t *testing.T, test func(t *testing.T, addrs []string)) {
	t.Run("kfake", func(t *testing.T) {
		test(t, kafkatest.Fake(t, nil, kfake.GroupMinSessionTimeout(time.Second)).Addrs())
	})
	t.Run("kafka", func(t *testing.T) { test(t, kafkatest.Real(t)) })
}

// child is a real `processor`.
type child struct {
	*exec.Cmd
	output *lockedBuffer
	ended  chan error
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startProcessor starts the test binary as the command (see TestMain).
func startProcessor(t *testing.T, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := &child{Cmd: &exec.Cmd{Path: self, Args: append([]string{"processor"}, args...), Env: os.Environ()}, output: &lockedBuffer{}, ended: make(chan error, 1)} // capacity 1: written once
	c.Stdout, c.Stderr = c.output, c.output
	require.NoError(t, c.Start())
	go func() { c.ended <- c.Wait() }()
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

func (c *child) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(patience):
		require.FailNow(t, "the process did not end", c.output.String())
		return nil
	}
}

// killRig is four topics on a broker, with activities in the first.
type killRig struct {
	addrs   []string
	topics  pipeline.Topics
	group   string
	config  string
	inputs  map[string][]byte // value by partition/offset
	session time.Duration
	cloud   *deliveries // nil: events are not delivered
}

const killPartitions = 3

// newRig makes the topics and the configuration.
func newRig(t *testing.T, addrs []string, session time.Duration) *killRig {
	t.Helper()
	name := fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().UnixNano())
	r := &killRig{addrs: addrs, group: name, inputs: map[string][]byte{}, session: session, topics: pipeline.Topics{
		Activities: name + "-activities", Decisions: name + "-decisions", Events: name + "-events", DeadLetters: name + "-dead-letters",
	}}
	for _, topic := range []string{r.topics.Activities, r.topics.Decisions, r.topics.Events, r.topics.DeadLetters} {
		require.NoError(t, kafkatest.CreateTopic(t.Context(), addrs, kafkatest.Topic{Name: topic, Partitions: killPartitions}))
	}
	r.config = filepath.Join(t.TempDir(), "sortition.yaml")
	r.configure(t, "handlers: [assign]")
	return r
}

// configure writes the configuration, with more lines.
func (r *killRig) configure(t *testing.T, more string) {
	t.Helper()
	datafile, err := filepath.Abs(filepath.Join("..", "..", "examples", "datafile.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.config, fmt.Appendf(nil, `
kafka: {brokers: ["%s"], group: "%s", session_timeout: %s}
datafile: {path: "%s"}
topics: {activities: "%s", decisions: "%s", events: "%s", odp_events: "", dead_letters: "%s"}
activities: {max_batch_records: 10, commit_interval: 20ms}
startup_timeout: 10s
drain_timeout: 10s
%s
`, strings.Join(r.addrs, `", "`), r.group, r.session, datafile, r.topics.Activities, r.topics.Decisions, r.topics.Events, r.topics.DeadLetters, more), 0o600))
}

// newKillRig is a rig with n activities of the sample, some of them unusable.
func newKillRig(t *testing.T, addrs []string, n int, session time.Duration) *killRig {
	t.Helper()
	r := newRig(t, addrs, session)
	options := sample.DefaultOptions()
	options.Bad, options.Visitors = 20, 200
	g := sample.NewGenerator(11, options)
	var outputs []pipeline.Output
	for range n {
		value := g.AppendNext(nil)
		outputs = append(outputs, pipeline.Output{Topic: r.topics.Activities, Key: slices.Clone(g.Key()), Value: value, Time: g.Time()})
	}
	r.produce(t, outputs)
	for _, rec := range r.read(t, r.topics.Activities) {
		r.inputs[at(int32(rec.Partition), rec.Offset)] = rec.Value
	}
	require.Len(t, r.inputs, n)
	return r
}

func (r *killRig) read(t *testing.T, topic string) []*kafkatest.Record {
	t.Helper()
	reader := kafkatest.NewReader(r.addrs)
	defer reader.Close()
	var mu sync.Mutex // guards all
	var all []*kafkatest.Record
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	require.NoError(t, reader.Each(ctx, topic, func(rec *kafkatest.Record) error {
		mu.Lock()
		defer mu.Unlock()
		copied := *rec
		all = append(all, &copied)
		return nil
	}))
	return all
}

// committed is the sum of the group's offsets.
func (r *killRig) committed(t *testing.T) int64 {
	t.Helper()
	return r.committedBy(t, r.group, r.topics.Activities)
}

func (r *killRig) committedBy(t *testing.T, group, topic string) (sum int64) {
	t.Helper()
	reader := kafkatest.NewReader(r.addrs)
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	offsets, err := reader.Committed(ctx, group, topic, killPartitions)
	if err != nil {
		return 0 // the coordinator is busy with a killed member
	}
	for _, at := range offsets {
		sum += at
	}
	return sum
}

// audit checks every input against the output topics, and that repeats are the
// same bytes. It returns how many there were.
func (r *killRig) audit(t *testing.T) (repeats int) {
	t.Helper()
	seen := map[string]*kafkatest.Record{}
	kinds := map[string]string{}
	see := func(from, kind string, rec *kafkatest.Record) {
		_, exists := r.inputs[from] // (Contains would walk the whole map)
		require.True(t, exists, from)
		if before, ok := seen[from]; ok {
			repeats++
			require.Equal(t, kinds[from], kind)
			require.Equal(t, string(before.Value), string(rec.Value))
			require.Equal(t, before.Key, rec.Key)
			require.Equal(t, before.Headers, rec.Headers)
			require.Equal(t, before.Time, rec.Time)
			require.Equal(t, before.Partition, rec.Partition)
			return
		}
		seen[from], kinds[from] = rec, kind
	}
	for _, rec := range r.read(t, r.topics.Decisions) {
		see(sourceOf(t, rec), "decision", rec)
	}
	for _, rec := range r.read(t, r.topics.DeadLetters) {
		headers := map[string]string{}
		for _, h := range rec.Headers {
			headers[h.Key] = string(h.Value)
		}
		from := headers[schemas.HeaderDLPartition] + "/" + headers[schemas.HeaderDLOffset]
		see(from, "dead letter", rec)
		require.Equal(t, string(r.inputs[from]), string(rec.Value))
	}
	for from := range r.inputs {
		_, isDone := seen[from]
		require.True(t, isDone, "%s is lost: neither decided nor a dead letter", from)
	}
	events := map[string]string{}
	for _, rec := range r.read(t, r.topics.Events) {
		var batch struct{ Visitors []json.RawMessage }
		require.NoError(t, json.Unmarshal(rec.Value, &batch))
		for _, visitor := range batch.Visitors {
			var v struct {
				Snapshots []struct{ Events []struct{ UUID string } }
			}
			require.NoError(t, json.Unmarshal(visitor, &v))
			uuid := v.Snapshots[0].Events[0].UUID
			if before, ok := events[uuid]; ok {
				repeats++
				require.Equal(t, before, string(visitor))
			}
			events[uuid] = string(visitor)
		}
	}
	r.requireAllEvents(t, events)
	if r.cloud != nil {
		r.cloud.requireAll(t, events)
	}
	return repeats
}

// sourceOf is where a decision record comes from.
func sourceOf(t *testing.T, rec *kafkatest.Record) string {
	t.Helper()
	var d struct{ Source schemas.Source }
	require.NoError(t, json.Unmarshal(rec.Value, &d))
	return at(d.Source.Partition, d.Source.Offset)
}

// at names a record by its place.
func at(partition int32, offset int64) string { return fmt.Sprintf("%d/%d", partition, offset) }

// requireAllEvents compares with what `processor assign` makes of the same
// activities: the same events but for their ids, which come from other places.
func (r *killRig) requireAllEvents(t *testing.T, events map[string]string) {
	t.Helper()
	folder := t.TempDir()
	in, out := filepath.Join(folder, "in.ndjson"), filepath.Join(folder, "events.ndjson")
	var lines []byte
	for _, from := range slices.Sorted(maps.Keys(r.inputs)) {
		lines = append(append(lines, r.inputs[from]...), '\n')
	}
	require.NoError(t, os.WriteFile(in, lines, 0o600))
	c := startProcessor(t, "assign", "--datafile", filepath.Join("..", "..", "examples", "datafile.json"), "-i", in,
		"-o", filepath.Join(folder, "decisions.ndjson"), "--events", out)
	var exit *exec.ExitError
	require.ErrorAs(t, c.wait(t), &exit)
	require.Equal(t, exitRejected, exit.ExitCode(), c.output.String())
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	uuid := regexp.MustCompile(`"uuid":"[0-9a-f-]{36}"`)
	want, got := map[string]int{}, map[string]int{}
	for line := range bytes.Lines(text) {
		var batch struct{ Visitors []json.RawMessage }
		require.NoError(t, json.Unmarshal(line, &batch))
		for _, v := range batch.Visitors {
			want[uuid.ReplaceAllString(string(v), "")]++
		}
	}
	for _, v := range events {
		got[uuid.ReplaceAllString(v, "")]++
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, got)
}

// Processes are killed with -9 again and again while they work; whoever comes next
// does the rest. Every activity has its decision record or dead letter, every event
// is there and arrives at an endpoint that fails half of its answers, and what was done
// twice is the same bytes.
func TestKilledProcessesLoseNothing(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		const n = 4_000
		r := newKillRig(t, addrs, n, 1500*time.Millisecond) // after it the killed one's partitions are free
		r.deliver(t)
		random := rand.New(rand.NewPCG(1, 2)) // its sequence need not stay the same
		kills := 0
		for kills < 3 {
			before := r.committed(t)
			c := startProcessor(t, "run", "-c", r.config)
			// In the middle of its work: some of it is committed, and not all.
			goal := before + 200 + random.Int64N(600)
			require.Eventually(t, func() bool { return r.committed(t) >= goal }, patience, time.Millisecond, "%s", c.output)
			require.NoError(t, c.Process.Kill())
			var exit *exec.ExitError
			require.ErrorAs(t, c.wait(t), &exit)
			require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
			kills++
			require.Less(t, r.committed(t), int64(n), "killed before it was through")
		}
		last := startProcessor(t, "run", "-c", r.config)
		require.Eventually(t, func() bool { return r.committed(t) == n }, patience, 20*time.Millisecond, "%s", last.output)
		r.cloud.awaitAll(t, r, last)
		require.NoError(t, last.Process.Signal(syscall.SIGTERM))
		require.NoError(t, last.wait(t), last.output.String())
		repeats := r.audit(t)
		t.Logf("%d kills, %d of %d records and their events repeated, 0 missing; %s", kills, repeats, n, r.cloud)
	})
}

// SIGTERM in the middle: everything in flight is finished and committed, and
// nothing is done twice.
func TestStoppedProcessesRepeatNothing(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		const n = 8_000
		// Long, so that a busy machine does not cost a process its membership, and
		// with it the right to commit.
		r := newKillRig(t, addrs, n, 30*time.Second)
		var outputs []string
		for stops := range 3 {
			c := startProcessor(t, "run", "-c", r.config)
			goal := min(int64(n), r.committed(t)+1000)
			if stops == 2 {
				goal = n
			}
			require.Eventually(t, func() bool { return r.committed(t) >= goal }, patience, time.Millisecond, "%s", c.output)
			require.NoError(t, c.Process.Signal(syscall.SIGTERM))
			require.NoError(t, c.wait(t), c.output.String())
			assert.Contains(t, c.output.String(), "msg=stopped")
			outputs = append(outputs, c.output.String())
		}
		require.Zero(t, r.audit(t), "%s", strings.Join(outputs, "\n"))
	})
}

// Being told to stop is no failure, whatever is waited for at the moment.
func TestStoppedWhileItWaits(t *testing.T) {
	r := newKillRig(t, kafkatest.Fake(t, nil).Addrs(), 1, 30*time.Second)
	raw, err := os.ReadFile(r.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.config, bytes.ReplaceAll(raw, []byte(r.topics.Decisions), []byte("nowhere")), 0o600))
	c := startProcessor(t, "run", "-c", r.config)
	require.Eventually(t, func() bool { return strings.Contains(c.output.String(), "waiting for topics") }, patience, 10*time.Millisecond)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.wait(t), c.output.String())
	assert.Contains(t, c.output.String(), "stopped before it began")
}

func TestMissingOutputTopicIsSaidAtTheStart(t *testing.T) {
	r := newKillRig(t, kafkatest.Fake(t, nil).Addrs(), 1, 30*time.Second)
	text, err := os.ReadFile(r.config)
	require.NoError(t, err)
	text = bytes.ReplaceAll(text, []byte(r.topics.Events), []byte("nowhere"))
	text = bytes.ReplaceAll(text, []byte("startup_timeout: 10s"), []byte("startup_timeout: 1s"))
	require.NoError(t, os.WriteFile(r.config, text, 0o600))
	c := startProcessor(t, "run", "-c", r.config)
	var exit *exec.ExitError
	require.ErrorAs(t, c.wait(t), &exit)
	require.Equal(t, exitFailed, exit.ExitCode())
	assert.Contains(t, c.output.String(), `msg="waiting for topics"`)
	assert.Contains(t, c.output.String(), `processor: waited 1s for topics: topic "nowhere" does not exist`)
}

// The example is the default, said aloud.
func TestExampleConfigurationIsTheDefault(t *testing.T) {
	example, err := loadStreamConfig(filepath.Join("..", "..", "examples", "sortition.yaml"))
	require.NoError(t, err)
	want := defaultStreamConfig()
	want.folder = example.folder
	want.Kafka.Brokers = []string{"localhost:9092"}
	want.Datafile.Path = "datafile.json"
	want.Options = []string{}
	require.Equal(t, want, example)
	_, err = example.parts()
	require.NoError(t, err)
}

func TestEnvironmentIsExpandedAsText(t *testing.T) {
	variables := map[string]string{"A": "x: [1, {", "YES": "true", "N": "42", "PIN": "007", "EMPTY": ""}
	c := defaultStreamConfig()
	require.NoError(t, parseStreamConfig([]byte(`
stream: ${A}-${UNSET:-b}-${EMPTY:-c}-${EMPTY}-$${A}
reasons: ${YES}
activities: {max_batch_records: "${N}"}
kafka:
  brokers: ["${UNSET:-a:1}", 'b:2']
  sasl: {username: 7, password: "${PIN}"}
`), func(name string) (string, bool) { v, ok := variables[name]; return v, ok }, c))
	assert.Equal(t, "x: [1, {-b-c--${A}", c.Stream)
	assert.True(t, c.Reasons)
	assert.Equal(t, 42, c.Activities.MaxBatchRecords)
	assert.Equal(t, []string{"a:1", "b:2"}, c.Kafka.Brokers)
	assert.Equal(t, secret("007"), c.Kafka.SASL.Password)

	c = defaultStreamConfig()
	require.NoError(t, parseStreamConfig([]byte("kafka: {sasl: {password: 007}}"), os.LookupEnv, c))
	assert.Equal(t, secret("007"), c.Kafka.SASL.Password, "a password of digits is text")
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", *c.Kafka.SASL, *c.Kafka.SASL, *c.Kafka.SASL), "007")
}

func TestSecretsComeFromFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("hunter2 \n"), 0o600))
	c := defaultStreamConfig()
	c.Kafka.SASL = &saslConfig{Mechanism: "scram-sha-512", Username: "me", PasswordFile: path}
	s, err := c.sasl()
	require.NoError(t, err)
	assert.Equal(t, kafkago.SASL{Mechanism: kafkago.ScramSHA512, Username: "me", Password: "hunter2 "}, *s)
}
