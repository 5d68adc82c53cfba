package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision/datafile"
	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/internal/sample"
	"sortition/odp"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

// wholeRig is a stream with all that it can ask: ODP, the event endpoint, Redis.
type wholeRig struct {
	t      *testing.T
	addrs  []string
	topics pipeline.Topics
	group  string
	config string
	cloud  *emulator.Server
	listen string
}

const wholeSeed = 5

// newWholeRig makes a configuration of all parts of a stream; more is YAML added to
// it. The topics are left to the stream.
func newWholeRig(t *testing.T, addrs []string, more string) *wholeRig {
	t.Helper()
	name := fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().UnixNano())
	r := &wholeRig{t: t, addrs: addrs, group: name, cloud: emulator.Start(t, emulator.Options{Datafile: examples.Datafile()}), topics: pipeline.Topics{
		Activities: name + "-activities", Decisions: name + "-decisions", Events: name + "-events", ODPEvents: name + "-odp-events", DeadLetters: name + "-dead-letters",
	}}
	users := map[string]emulator.Segments{}
	for user, segments := range sample.Truth(wholeSeed, sample.DefaultOptions().Visitors) {
		users[user] = emulator.Segments{Segments: segments}
	}
	require.NoError(t, r.cloud.SetUsers(users))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.listen = listener.Addr().String()
	require.NoError(t, listener.Close())
	r.config = filepath.Join(t.TempDir(), "sortition.yaml")
	urls := r.cloud.URLs()
	require.NoError(t, os.WriteFile(r.config, fmt.Appendf(nil, `
kafka: {brokers: ["%s"], group: "%s"}
topics: {activities: "%s", decisions: "%s", events: "%s", odp_events: "%s", dead_letters: "%s", create: {partitions: 3, replication_factor: 1, retention: -1h}}
datafile: {sdk_key: "%s", url_template: "%s", poll_interval: 1s, archive: archive, cache_file: cached.json}
activities: {max_batch_records: 100, commit_interval: 20ms}
segments: {fetch: true, host: "%s", policy: hold}
deliver: {events: {endpoint: "%s"}, odp: {endpoint: "%s"}}
http: {listen: "%s"}
startup_timeout: 20s
drain_timeout: 10s
%s`, strings.Join(addrs, `", "`), r.group, r.topics.Activities, r.topics.Decisions, r.topics.Events, r.topics.ODPEvents, r.topics.DeadLetters,
		urls.SDKKey, urls.Datafile, urls.ODP, urls.Events, urls.ODP, r.listen, more), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(r.config), "archive"), 0o700))
	return r
}

// produce stores n sample activities in the topic.
func (r *wholeRig) produce(n int) {
	r.t.Helper()
	producer, err := kafkago.NewProducer(kafkago.ProducerConfig{Connection: kafkago.Connection{Brokers: r.addrs}})
	require.NoError(r.t, err)
	defer producer.Close()
	options := sample.DefaultOptions()
	options.Bad = 20
	g := sample.NewGenerator(wholeSeed, options)
	var outputs []pipeline.Output
	for range n {
		value := g.AppendNext(nil)
		outputs = append(outputs, pipeline.Output{Topic: r.topics.Activities, Key: slices.Clone(g.Key()), Value: value, Time: g.Time()})
	}
	require.NoError(r.t, producer.Produce(r.t.Context(), outputs))
}

func (r *wholeRig) get(path string) (int, string) {
	res, err := http.Get("http://" + r.listen + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	return res.StatusCode, string(body)
}

// metric is the sum of a metric's samples, or -1 if it has none.
func (r *wholeRig) metric(name string) float64 {
	_, text := r.get("/metrics")
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		if label, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && (label == name || strings.HasPrefix(label, name+"{")) {
			var v float64
			_, err := fmt.Sscan(value, &v)
			require.NoError(r.t, err)
			sum, found = sum+v, true
		}
	}
	if !found {
		return -1
	}
	return sum
}

// All of it in one process: topics are made, segments fetched, profiles kept, events
// and ODP events delivered; metrics and health tell; SIGTERM ends it in good order.
func TestRunDoesAllOfIt(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		const n = 3000
		store := miniredis.RunT(t)
		r := newWholeRig(t, addrs, fmt.Sprintf("redis: {address: %q}\nprofiles: {store: redis}\nevents: {dedup: window}\n", store.Addr()))
		c := startProcessor(t, "run", "-c", r.config)
		require.Eventually(t, func() bool { code, _ := r.get("/readyz"); return code == http.StatusOK }, patience, 20*time.Millisecond, "%s", c.output)
		code, _ := r.get("/healthz")
		require.Equal(t, http.StatusOK, code)
		r.produce(n)
		isDone := func() bool {
			return r.metric("sortition_activities_total") == n && r.metric("sortition_delivered_events_total{handler=\"deliver-events\"}") == r.metric("sortition_events_total") &&
				r.metric("sortition_delivered_events_total{handler=\"deliver-odp\"}") == r.metric("sortition_odp_events_total") && r.metric("sortition_consumer_lag") == 0
		}
		require.Eventually(t, isDone, patience, 50*time.Millisecond, "%s", c.output)
		assert.Positive(t, r.metric("sortition_events_suppressed_total"), "users come again within the window")
		assert.Positive(t, r.metric("sortition_odp_events_total"))
		assert.Positive(t, r.metric("sortition_profile_saves_total"))
		assert.Positive(t, r.metric("sortition_dead_letters_total"))
		assert.Zero(t, r.metric("sortition_segments_total{outcome=\"unknown\"}"))
		assert.Equal(t, 9, int(r.metric("sortition_consumer_partitions")), "three stages, three partitions each")
		assert.Zero(t, r.metric("sortition_breaker_open"))
		delivered, odpEvents := r.metric("sortition_events_total"), r.metric("sortition_odp_events_total")
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		require.NoError(t, c.wait(t), c.output.String())

		counts := r.cloud.Counts()
		assert.Equal(t, int(delivered), counts.UUIDs)
		assert.Equal(t, int(odpEvents), counts.ODPIDs)
		truth := map[string][]string{}
		for user, segments := range sample.Truth(wholeSeed, sample.DefaultOptions().Visitors) {
			truth[user] = segments
		}
		kill := &killRig{addrs: addrs}
		decided := 0
		for _, rec := range kill.read(t, r.topics.Decisions) {
			var d struct {
				UserID        string   `json:"user_id"`
				Segments      []string `json:"segments"`
				SegmentsError string   `json:"segments_error"`
			}
			require.NoError(t, json.Unmarshal(rec.Value, &d))
			decided++
			assert.Empty(t, d.SegmentsError)
			if want, ok := truth[d.UserID]; ok {
				assert.ElementsMatch(t, want, d.Segments)
			}
		}
		letters := kill.read(t, r.topics.DeadLetters)
		assert.Equal(t, n, decided+len(letters))
		assert.NotEmpty(t, store.Keys(), "profiles are in Redis")
		archived, err := filepath.Glob(filepath.Join(filepath.Dir(r.config), "archive", "*"))
		require.NoError(t, err)
		assert.NotEmpty(t, archived)
		assert.NotContains(t, c.output.String(), "level=ERROR")
		for _, user := range []string{"sample-public-key", r.cloud.URLs().SDKKey} {
			assert.NotContains(t, c.output.String(), user, "keys are in no log")
		}
	})
}

// The parts in processes of their own do together what one does alone, and an endpoint
// that is away holds the delivery only.
func TestHandlersRunApart(t *testing.T) {
	onBrokers(t, func(t *testing.T, addrs []string) {
		const n = 1000
		r := newWholeRig(t, addrs, "")
		_, err := r.cloud.AddFault(emulator.Fault{Route: string(emulator.RouteEvents), Status: http.StatusServiceUnavailable})
		require.NoError(t, err)
		base, err := os.ReadFile(r.config)
		require.NoError(t, err)
		part := func(handler, listen string) *child {
			path := filepath.Join(filepath.Dir(r.config), handler+".yaml")
			text := bytes.ReplaceAll(base, []byte(r.listen), []byte(listen))
			if handler != pipeline.AssignActivities { // they can do without each other's folders
				text = bytes.Replace(text, []byte("archive: archive, cache_file: cached.json"), []byte("timeout: 5s"), 1)
			}
			require.NoError(t, os.WriteFile(path, fmt.Appendf(text, "handlers: [%s]\n", handler), 0o600))
			return startProcessor(t, "run", "-c", path)
		}
		assign := part(pipeline.AssignActivities, r.listen)
		events, odpEvents := part(pipeline.DeliverEvents, ""), part(pipeline.DeliverODP, "")
		require.Eventually(t, func() bool { code, _ := r.get("/readyz"); return code == http.StatusOK }, patience, 20*time.Millisecond, "%s", assign.output)
		r.produce(n)
		require.Eventually(t, func() bool { return r.metric("sortition_activities_total") == n }, patience, 20*time.Millisecond, "%s", assign.output)
		made := r.metric("sortition_events_total")
		require.Eventually(t, func() bool { return float64(r.cloud.Counts().ODPIDs) == r.metric("sortition_odp_events_total") }, patience, 20*time.Millisecond, "%s", odpEvents.output)
		assert.Zero(t, r.cloud.Counts().UUIDs, "the endpoint is away")
		r.cloud.ClearFaults()
		require.Eventually(t, func() bool { return float64(r.cloud.Counts().UUIDs) == made }, patience, 20*time.Millisecond, "%s", events.output)
		for _, c := range []*child{assign, events, odpEvents} {
			require.NoError(t, c.Process.Signal(syscall.SIGTERM))
			require.NoError(t, c.wait(t), c.output.String())
		}
		assert.Contains(t, events.output.String(), "handler=deliver-events")
		assert.NotContains(t, events.output.String(), "handler=assign")
	})
}

// A datafile that is there from the start tells the parts opened after it, too.
func TestGivenDatafileReachesSegments(t *testing.T) {
	cfg := defaultStreamConfig()
	cfg.Kafka.Brokers, cfg.Datafile.Path = []string{"127.0.0.1:1"}, "(given below)"
	cfg.Segments.Fetch, cfg.Segments.Host = true, "http://127.0.0.1:1"
	parts, err := cfg.parts()
	require.NoError(t, err)
	parts.datafile = &datafile.Config{Poll: datafile.PollConfig{Datafile: examples.Datafile()}}
	s, err := openStream(parts, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer s.close()
	answers, err := s.segmenter.AppendSegments(t.Context(), nil, []string{"u"})
	require.NoError(t, err)
	require.Equal(t, []pipeline.SegmentAnswer{{Code: odp.NetworkError.String()}}, answers, "it asks, where it is told to")
}
