package pipeline

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/examples"
	"sortition/internal/sample"
	"sortition/schemas"
)

func newTestAssigner(t testing.TB, layout Layout) *Assigner {
	p, err := decision.Compile(examples.Datafile())
	require.NoError(t, err)
	a := NewAssigner(Settings{Stream: "test", DecideAll: true, Client: decision.Client{Name: "sortition", Version: "test"}, Layout: layout})
	a.Use(NewSnapshot(p))
	return a
}

// A fragment kept from an earlier activity must read like a record made afresh.
func TestKeptFragmentsReadLikeFreshOnes(t *testing.T) {
	warm, cold := newTestAssigner(t, Nested), newTestAssigner(t, Nested)
	g := sample.NewGenerator(7, sample.DefaultOptions())
	var d schemas.Decoder
	for i := range 2000 {
		line := g.AppendNext(nil)
		var act schemas.Activity
		if d.Decode(line, &act) != nil {
			continue
		}
		cold.Use(NewSnapshot(warm.snapshot.Project))
		source := schemas.Source{Topic: "activities", Partition: 1, Offset: int64(i)}
		warm.Assign(context.Background(), &act, &source, 5)
		cold.Assign(context.Background(), &act, &source, 5)
		require.Equal(t, string(cold.AppendRecord(nil)), string(warm.AppendRecord(nil)))
		require.True(t, json.Valid(warm.AppendRecord(nil)))
	}
}

func TestAssignDoesNotAllocate(t *testing.T) {
	a := newTestAssigner(t, Nested)
	var d schemas.Decoder
	var act schemas.Activity
	line := []byte(`{"user_id":"u-1","attributes":{"plan":"gold","age":31,"country":"DE"},"segments":["vip"],"decide":"*"}`)
	source := schemas.Source{Topic: "activities", Partition: 1, Offset: 9}
	var dst []byte
	run := func() {
		if err := d.Decode(line, &act); err != nil {
			t.Fatal(err)
		}
		a.Assign(context.Background(), &act, &source, 5)
		dst = a.AppendRecord(dst[:0])
	}
	run()
	require.Zero(t, testing.AllocsPerRun(100, run))
}

// Batches close when full, when too large, and when the head changes.
func TestEventBatcherBounds(t *testing.T) {
	p, err := decision.Compile(examples.Datafile())
	require.NoError(t, err)
	client := decision.Client{Name: "a", Version: "1"}
	visitor := []byte(`{"visitor_id":"u"}`)
	b := NewEventBatcher(3, 0)
	for range 7 {
		b.Add(p, client, visitor, "id")
	}
	b.Add(p, decision.Client{Name: "b", Version: "1"}, visitor, "other")
	var sizes []int
	for _, body := range b.Flush() {
		require.True(t, json.Valid(body.Body))
		sizes = append(sizes, body.Visitors)
	}
	require.Equal(t, []int{3, 3, 1, 1}, sizes)
	require.Empty(t, b.Flush())

	b = NewEventBatcher(100, 400)
	for range 20 {
		b.Add(p, client, visitor, "id")
	}
	total := 0
	for _, body := range b.Flush() {
		require.LessOrEqual(t, len(body.Body), 400)
		total += body.Visitors
	}
	require.Equal(t, 20, total)
}
