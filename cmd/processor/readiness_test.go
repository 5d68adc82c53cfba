package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/decision/datafile"
	"sortition/examples"
	"sortition/internal/kafkatest"
	"sortition/pipeline"
	"sortition/pipeline/kafkago"
)

func TestFetchWatch(t *testing.T) {
	const (
		membership = "membership"
		answers    = "answers to fetches"
	)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	// A look at a subscriber; times are seconds after start, fetched < 0: never.
	type look struct {
		at, fetched int
		generations uint64
		assigned    int
		buffered    int64
		lacks       string
	}
	for name, looks := range map[string][]look{
		"joining": {
			{at: 0, fetched: -1, lacks: membership},
			{at: 100, fetched: -1, lacks: membership},
			{at: 101, fetched: -1, generations: 1, assigned: 2},
			{at: 102, fetched: 102, generations: 1, assigned: 2},
		},
		"idle, with answers": {
			{at: 0, fetched: 0, generations: 1, assigned: 1},
			{at: 100, fetched: 99, generations: 1, assigned: 1},
			{at: 200, fetched: 199, generations: 1, assigned: 1},
		},
		"no answers any more": {
			{at: 0, fetched: 0, generations: 1, assigned: 1},
			{at: 46, fetched: 1, generations: 1, assigned: 1},
			{at: 47, fetched: 1, generations: 1, assigned: 1, lacks: answers},
			{at: 48, fetched: 48, generations: 1, assigned: 1},
		},
		"never one": {
			{at: 0, fetched: -1, generations: 1, assigned: 1},
			{at: 45, fetched: -1, generations: 1, assigned: 1},
			{at: 46, fetched: -1, generations: 1, assigned: 1, lacks: answers},
		},
		"a member without partitions": {
			{at: 0, fetched: -1, generations: 1},
			{at: 1000, fetched: -1, generations: 1},
			{at: 2000, fetched: -1, generations: 2, assigned: 1},
			{at: 2001, fetched: -1, generations: 2, assigned: 1},
		},
		"a rebalance": {
			{at: 0, fetched: 0, generations: 1, assigned: 2},
			{at: 40, fetched: 0, generations: 1},
			{at: 44, fetched: 0, generations: 2, assigned: 1},
			{at: 80, fetched: 0, generations: 2, assigned: 1},
		},
		"a rebalance that ends with nothing": {
			{at: 0, fetched: 0, generations: 1, assigned: 2},
			{at: 20, fetched: 0, generations: 2},
			{at: 1000, fetched: 0, generations: 2},
		},
		"membership lost": {
			{at: 0, fetched: 0, generations: 1, assigned: 2},
			{at: 30, fetched: 10, generations: 1},
			{at: 56, fetched: 10, generations: 1, lacks: membership},
			{at: 57, fetched: 10, generations: 2, assigned: 2},
		},
		"as much held as may be": {
			{at: 0, fetched: 0, generations: 1, assigned: 2},
			{at: 100, fetched: 1, generations: 1, assigned: 2, buffered: 2 * fetchAheadBytes},
			{at: 9000, fetched: 1, generations: 1, assigned: 2, buffered: 2 * fetchAheadBytes},
			{at: 9001, fetched: 1, generations: 1, assigned: 2, buffered: 1}, // emptied; the answer comes in a moment
			{at: 9002, fetched: 9002, generations: 1, assigned: 2},
		},
		"as much held as all together may": {
			{at: 0, fetched: 0, generations: 1, assigned: 100},
			{at: 9000, fetched: 1, generations: 1, assigned: 100, buffered: maxBufferedBytes},
		},
		"one partition is full, the other is not answered for": {
			{at: 0, fetched: 0, generations: 1, assigned: 2},
			{at: 100, fetched: 1, generations: 1, assigned: 2, buffered: 2*fetchAheadBytes - 1, lacks: answers},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &fetchWatch{patience: 45 * time.Second}
			second := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
			for _, l := range looks {
				state := kafkago.SubscriberState{Assigned: l.assigned, Buffered: l.buffered}
				if l.fetched >= 0 {
					state.LastFetch = second(l.fetched)
				}
				require.Equal(t, l.lacks, w.look(l.generations, &state, second(l.at)), "%+v", l)
			}
		})
	}
}

func TestFetchPatience(t *testing.T) {
	p := &streamParts{}
	for session, patience := range map[time.Duration]time.Duration{
		6 * time.Second: 45 * time.Second, 30 * time.Second: 45 * time.Second, time.Minute: 75 * time.Second,
	} {
		p.subscriber.SessionTimeout = session
		require.Equal(t, patience, p.fetchPatience())
	}
}

// A stream is ready as long as brokers answer, though there is nothing to read, and no
// longer when they are away.
func TestReadyWhileBrokersAnswer(t *testing.T) {
	parts, cluster := newIdleStream(t)
	s, err := openStream(parts, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer s.close()
	s.legs[0].watch.patience = 3 * time.Second // longer than a long poll; less than anybody wants to wait here
	get := func() (code int, r readiness) {
		answer := httptest.NewRecorder()
		s.httpHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &r))
		return answer.Code, r
	}
	code, r := get()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NotEmpty(t, r.Waits)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1) // capacity 1: written once
	go func() { ended <- s.run(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-ended)
	}()
	require.Eventually(t, func() bool { code, _ := get(); return code == http.StatusOK }, patience, 10*time.Millisecond)
	began := time.Now()
	require.Eventually(t, func() bool {
		code, r := get()
		require.Equal(t, http.StatusOK, code, "%+v", r)
		return s.legs[0].subscriber.State().LastFetch.Sub(began) > s.legs[0].watch.patience
	}, patience, 50*time.Millisecond, "empty answers count")
	cluster.Close()
	require.Eventually(t, func() bool { code, r = get(); return code == http.StatusServiceUnavailable }, patience, 50*time.Millisecond)
	require.Len(t, r.Waits, 1)
	require.Contains(t, r.Waits[0], "of group idle")
}

// newIdleStream is a stream that assigns, on a broker of its own without activities.
func newIdleStream(t *testing.T) (streamParts, *kafkatest.Cluster) {
	t.Helper()
	cfg := defaultStreamConfig()
	cfg.Handlers, cfg.Kafka.Group, cfg.Datafile.Path = []string{pipeline.AssignActivities}, "idle", "(given below)"
	var topics []kafkatest.Topic
	for _, name := range []string{cfg.Topics.Activities, cfg.Topics.Decisions, cfg.Topics.Events, cfg.Topics.ODPEvents, cfg.Topics.DeadLetters} {
		topics = append(topics, kafkatest.Topic{Name: name, Partitions: 2})
	}
	cluster := kafkatest.Fake(t, topics, kfake.GroupMinSessionTimeout(time.Second))
	cfg.Kafka.Brokers = cluster.Addrs()
	parts, err := cfg.parts()
	require.NoError(t, err)
	parts.datafile = &datafile.Config{Poll: datafile.PollConfig{Datafile: examples.Datafile(), URL: "http://127.0.0.1:1/"}}
	return parts, cluster
}
