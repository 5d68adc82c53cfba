package kafkatest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
)

var _ TB = (testing.TB)(nil)

func TestStartHasItsTopics(t *testing.T) {
	c, err := Start([]Topic{{Name: "in", Partitions: 3}, {Name: "out", Partitions: 1}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, CreateTopic(t.Context(), c.Addrs(), Topic{Name: "later", Partitions: 2}, "retention.ms", "1000"))
	require.NoError(t, CreateTopic(t.Context(), c.Addrs(), Topic{Name: "later", Partitions: 2}), "it exists already")

	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(c.Addrs()...), Transport: transport, Timeout: 10 * time.Second}
	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
	require.NoError(t, err)
	partitions := map[string]int{}
	for _, topic := range meta.Topics {
		partitions[topic.Name] = len(topic.Partitions)
	}
	require.Equal(t, map[string]int{"in": 3, "out": 1, "later": 2}, partitions)
}

func TestStartRefusesNonsense(t *testing.T) {
	_, err := Start([]Topic{{Name: "in"}})
	require.ErrorContains(t, err, `topic "in" with 0 partitions`)
}

func TestCreateTopicHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, CreateTopic(ctx, []string{"127.0.0.1:1"}, Topic{Name: "t", Partitions: 1}))
}

// witness notes what Real tells a test.
type witness struct{ fatal, skip string }

func (*witness) Helper()                        {}
func (*witness) Name() string                   { return "witness" }
func (*witness) Cleanup(func())                 {}
func (w *witness) Fatalf(f string, args ...any) { w.fatal = fmt.Sprintf(f, args...) }
func (w *witness) Skipf(f string, args ...any)  { w.skip = fmt.Sprintf(f, args...) }

// A test that needs the real Kafka is never passed over in silence.
func TestRealIsGivenSkippedOrFailed(t *testing.T) {
	for _, c := range []struct {
		addr, ci    string
		fatal, skip bool
		want        []string
	}{
		{addr: "a:1,b:2", ci: "true", want: []string{"a:1", "b:2"}},
		{addr: "", ci: "", skip: true},
		{addr: "", ci: "true", fatal: true},
	} {
		t.Setenv(EnvKafka, c.addr)
		t.Setenv("CI", c.ci)
		w := &witness{}
		require.Equal(t, c.want, Real(w))
		require.Equal(t, c.fatal, w.fatal != "")
		require.Equal(t, c.skip, w.skip != "")
	}
}

func TestToolIsGivenSkippedOrFailed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o700))
	for _, c := range []struct {
		path, ci    string
		fatal, skip bool
		want        string
	}{
		{path: dir, ci: "true", want: filepath.Join(dir, "tool")},
		{path: "", ci: "", skip: true},
		{path: "", ci: "true", fatal: true},
	} {
		t.Setenv("PATH", c.path)
		t.Setenv("CI", c.ci)
		w := &witness{}
		require.Equal(t, c.want, Tool(w, "tool"))
		require.Equal(t, c.fatal, w.fatal != "")
		require.Equal(t, c.skip, w.skip != "")
	}
}
