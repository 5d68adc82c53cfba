package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"sortition/odp"
	"sortition/schemas"
)

func odpSchema(t *testing.T) *jsonschema.Schema {
	text, err := schemas.FS.ReadFile("odp-event-batch.v1.schema.json")
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("odp", document))
	s, err := c.Compile("odp")
	require.NoError(t, err)
	return s
}

// odpEvent is an event as it is sent.
type odpEvent struct {
	Type, Action string
	Identifiers  map[string]string
	Data         map[string]any
}

func odpEventsOf(t *testing.T, s *jsonschema.Schema, body []byte) []odpEvent {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	require.NoError(t, err, "%s", body)
	require.NoError(t, s.Validate(document), "%s", body)
	var events []odpEvent
	require.NoError(t, json.Unmarshal(body, &events))
	return events
}

// odpRun decides activities, as records of one batch, and adds their ODP events.
func odpRun(t *testing.T, to *ODPBatcher, activities []string) (bodies []ODPBody, fates []fate) {
	a := newTestAssigner(t, Nested)
	var d schemas.Decoder
	var act schemas.Activity
	for i, text := range activities {
		require.NoError(t, d.Decode([]byte(text), &act))
		source := schemas.Source{Topic: "activities", Partition: 1, Offset: int64(100 + i)}
		a.Assign(context.Background(), &act, &source, 5)
		_, invalid := a.AddODPEvents(to, i)
		fates = append(fates, invalid)
	}
	return to.Flush(), fates
}

func TestODPBodies(t *testing.T) {
	s := odpSchema(t)
	var activities []string
	for i, n := range []int{4, 0, 12, 7} {
		var events []string
		for k := range n {
			events = append(events, fmt.Sprintf(`{"action":"a%d","data":{"n":"\u0030%d.%d"}}`, k%3, i, k))
		}
		activities = append(activities, fmt.Sprintf(`{"user_id":"u\u0030%d","identifiers":{"vuid":"v%d"},"odp_events":[%s]}`, i, i, strings.Join(events, ",")))
	}
	batcher := NewODPBatcher(odp.Sender{Name: "sortition", Version: "1"}, 0)
	bodies, fates := odpRun(t, batcher, activities)
	for _, f := range fates {
		require.Zero(t, f)
	}
	var sizes []int
	var events, singles []odpEvent
	var records []int
	ids := map[any]bool{}
	for i := range bodies {
		body := &bodies[i]
		found := odpEventsOf(t, s, body.Body)
		require.Len(t, found, body.Events)
		require.Equal(t, body.ID, found[0].Data["idempotence_id"])
		sizes = append(sizes, body.Events)
		events = append(events, found...)
		for _, one := range batcher.appendSingles(nil, body) {
			alone := odpEventsOf(t, s, one.Body)
			require.Len(t, alone, 1)
			require.Equal(t, one.ID, alone[0].Data["idempotence_id"])
			singles = append(singles, alone...)
			records = append(records, batcher.recordOf(&one))
		}
	}
	require.Equal(t, []int{10, 10, 3}, sizes)
	require.Equal(t, events, singles)
	var wantRecords []int
	for i, n := range []int{4, 0, 12, 7} {
		for k := range n {
			e := events[len(wantRecords)]
			require.Equal(t, fmt.Sprintf("0%d.%d", i, k), e.Data["n"], "order is kept")
			require.Equal(t, map[string]string{"fs_user_id": fmt.Sprint("u0", i), "vuid": fmt.Sprint("v", i)}, e.Identifiers)
			require.Equal(t, fmt.Sprint("a", k%3), e.Action)
			require.Equal(t, "fullstack", e.Type)
			ids[e.Data["idempotence_id"]] = true
			wantRecords = append(wantRecords, i)
		}
	}
	require.Equal(t, wantRecords, records)
	require.Len(t, ids, 23, "every event has an id of its own")

	// Made again, with recycled buffers and by another worker: the same bytes; and an
	// event's bytes don't depend on its neighbours.
	text := func(bodies []ODPBody) string {
		var out []string
		for _, b := range bodies {
			out = append(out, b.ID+" "+string(b.Body))
		}
		return strings.Join(out, "\n")
	}
	before := text(bodies)
	batcher.Recycle(bodies)
	again, _ := odpRun(t, batcher, activities)
	require.Equal(t, before, text(again))
	other, _ := odpRun(t, NewODPBatcher(odp.Sender{Name: "sortition", Version: "1"}, 1), activities)
	require.Len(t, other, 23, "an event alone may be larger than the bound")
	for i := range other {
		require.Equal(t, events[i:i+1], odpEventsOf(t, s, other[i].Body))
	}
	require.Empty(t, batcher.Flush())
}

func TestODPBodiesAreBounded(t *testing.T) {
	const bound = 700
	long := strings.Repeat("x", 100)
	var events []string
	for i := range 30 {
		events = append(events, fmt.Sprintf(`{"action":"a","data":{"n":%d,"x":"%s"}}`, i, long[:i*3]))
	}
	bodies, _ := odpRun(t, NewODPBatcher(odp.Sender{Name: "s", Version: "1"}, bound), []string{`{"user_id":"u","odp_events":[` + strings.Join(events, ",") + `]}`})
	n := 0
	for i, b := range bodies {
		require.LessOrEqual(t, len(b.Body), bound)
		n += b.Events
		if i > 0 { // and no smaller than they need be
			require.Greater(t, len(bodies[i-1].Body)+len(b.Body)/b.Events, bound/2)
		}
	}
	require.Equal(t, 30, n)
	require.Greater(t, len(bodies), 3)
}

// What can't be sent costs the activity a dead letter, and nothing else.
func TestInvalidODPEvents(t *testing.T) {
	batcher := NewODPBatcher(odp.Sender{Name: "s", Version: "1"}, 0)
	bodies, fates := odpRun(t, batcher, []string{
		`{"user_id":"u","odp_events":[{"action":"a","data":{"secret":[1]}},{"action":"a"},{"action":""},{"action":"b","identifiers":{"email":""}}]}`,
		`{"user_id":"","odp_events":[{"action":"c"}]}`,
		`{"user_id":"w","odp_events":[{"action":"d"}]}`,
	})
	require.Equal(t, []fate{
		{code: ReasonODPEvent, detail: "odp_events.0: invalid ODP event: data values must be strings, finite numbers, booleans or null (and 2 more)"},
		{code: ReasonODPEvent, detail: "odp_events.0: invalid ODP event: there must be an identifier"},
		{},
	}, fates)
	require.Contains(t, Reasons(), ReasonODPEvent)
	require.Len(t, bodies, 1)
	events := odpEventsOf(t, odpSchema(t), bodies[0].Body)
	require.Equal(t, []string{"a", "d"}, []string{events[0].Action, events[1].Action})
	require.Equal(t, []int{0, 2}, []int{batcher.marks[0].record, batcher.marks[1].record})

	// The ids of those that can be sent don't depend on the others' being mended.
	mended, _ := odpRun(t, batcher, []string{`{"user_id":"u","odp_events":[{"action":"a","data":{"secret":1}},{"action":"a"}]}`})
	after := odpEventsOf(t, odpSchema(t), mended[0].Body)
	require.Equal(t, events[0].Data["idempotence_id"], after[1].Data["idempotence_id"])
	require.NotEqual(t, after[0].Data["idempotence_id"], after[1].Data["idempotence_id"])
}

func BenchmarkODPEvents(b *testing.B) {
	batcher := NewODPBatcher(odp.Sender{Name: "s", Version: "1"}, 0)
	var d schemas.Decoder
	var act schemas.Activity
	if err := d.Decode([]byte(`{"user_id":"u-17","identifiers":{"vuid":"vuid_1"},"odp_events":[{"action":"viewed","data":{"category":"shoes","price":12.5}}]}`), &act); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := batcher.Add(&act, &act.ODPEvents[0], "5b1f0000-0000-4000-8000-000000000000", i); err != nil {
			b.Fatal(err)
		}
		if i++; i%1000 == 0 {
			batcher.Recycle(batcher.Flush())
		}
	}
}
