package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// What a Go value is as an attribute.
func TestValueOf(t *testing.T) {
	type (
		myInt    int16
		myString string
		myBool   bool
		myFloat  float32
	)
	seven := 7
	var noPointer *int
	for _, row := range []struct {
		given any
		kind  decision.Kind
		json  string
	}{
		{nil, decision.KindNull, `null`}, {noPointer, decision.KindNull, `null`}, {[]int(nil), decision.KindNull, `null`},
		{true, decision.KindBool, `true`}, {myBool(false), decision.KindBool, `false`},
		{"x\"", decision.KindString, `"x\""`}, {myString("y"), decision.KindString, `"y"`}, {"", decision.KindString, `""`},
		{7, decision.KindNumber, `7`}, {int8(-7), decision.KindNumber, `-7`}, {myInt(7), decision.KindNumber, `7`}, {uint16(7), decision.KindNumber, `7`},
		{&seven, decision.KindNumber, `7`}, {uint64(math.MaxUint64), decision.KindNumber, `18446744073709551615`}, {int64(math.MinInt64), decision.KindNumber, `-9223372036854775808`},
		{7.0, decision.KindNumber, `7.0`}, {7.5, decision.KindNumber, `7.5`}, {float32(0.1), decision.KindNumber, `0.1`}, {myFloat(2), decision.KindNumber, `2.0`},
		{math.NaN(), decision.KindNumber, `null`}, {math.Inf(-1), decision.KindNumber, `null`}, {float32(math.Inf(1)), decision.KindNumber, `null`},
		{json.Number("7"), decision.KindNumber, `7`}, {json.Number("7.0"), decision.KindNumber, `7.0`}, {json.Number("seven"), decision.KindNull, `null`},
		{[]int{1}, decision.KindComposite, `[1]`}, {map[string]any{"a": 1}, decision.KindComposite, `{"a":1}`}, {struct{ A int }{1}, decision.KindComposite, `{"A":1}`},
		{make(chan int), decision.KindComposite, `{}`}, {[]float64{math.NaN()}, decision.KindComposite, `{}`},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), decision.KindString, `"2026-01-02T03:04:05Z"`}, {json.RawMessage(`12`), decision.KindNumber, `12`},
	} {
		v := valueOf(row.given)
		require.Equal(t, row.kind, v.Kind(), "%T %v", row.given, row.given)
		require.Equal(t, row.json, string(v.AppendJSON(nil)), "%T %v", row.given, row.given)
	}
}

// The tables of events.md sections 6 and 7, from Go values.
func TestEventValues(t *testing.T) {
	datafile := worked(t)
	datafile["botFiltering"] = nil
	c, events := newClient(t, datafile)
	const big = 1 << 53
	for _, row := range []struct {
		attributes map[string]any
		sent       string // key=value …
	}{
		{nil, ``}, {map[string]any{}, ``}, {map[string]any{"plan": ""}, `plan=""`},
		{map[string]any{"age": big}, `age=9007199254740992`}, {map[string]any{"age": big + 1}, ``}, {map[string]any{"age": -big - 1}, ``},
		{map[string]any{"age": float64(big)}, `age=9007199254740992.0`}, {map[string]any{"age": 1.5}, `age=1.5`}, {map[string]any{"age": uint64(5)}, `age=5`},
		{map[string]any{"age": math.NaN(), "plan": nil}, ``}, {map[string]any{"age": math.Inf(1), "plan": []int{1}}, ``},
		{map[string]any{"plan": map[string]any{}}, ``}, {map[string]any{"nope": 1}, ``}, {map[string]any{"$opt_x": 1}, `$opt_x=1`},
		{map[string]any{"plan": true}, `plan=true`}, {map[string]any{"age": json.Number("3e2")}, `age=3e2`},
	} {
		require.NoError(t, c.NewUser("u", row.attributes).TrackEvent(t.Context(), "bought", nil))
		var visitor struct {
			Attributes []struct {
				Key   string          `json:"key"`
				Value json.RawMessage `json:"value"`
			} `json:"attributes"`
		}
		require.NoError(t, json.Unmarshal(events.events[0].Body, &visitor))
		events.take(t)
		sent := ""
		for _, a := range visitor.Attributes {
			sent += a.Key + "=" + string(a.Value)
		}
		require.Equal(t, row.sent, sent, "%v", row.attributes)
	}

	book := &logBook{}
	c, events = newClient(t, datafile, WithLogger(book.logger()))
	cyclic := map[string]any{}
	cyclic["self"] = cyclic
	for _, row := range []struct {
		tags map[string]any
		want string // revenue, value, tags of the event
	}{
		{nil, `{}`}, {map[string]any{}, `{"tags":{}}`},
		{map[string]any{"revenue": 4200, "value": 9.5, "category": "shoes", "quantity": 3}, `{"revenue":4200,"value":9.5,"tags":{"category":"shoes","quantity":3,"revenue":4200,"value":9.5}}`},
		{map[string]any{"revenue": 42.0}, `{"tags":{"revenue":42.0}}`}, {map[string]any{"revenue": json.Number("42")}, `{"revenue":42,"tags":{"revenue":42}}`},
		{map[string]any{"revenue": float32(42)}, `{"tags":{"revenue":42.0}}`}, {map[string]any{"revenue": uint8(42)}, `{"revenue":42,"tags":{"revenue":42}}`},
		{map[string]any{"revenue": "42"}, `{"tags":{"revenue":"42"}}`}, {map[string]any{"revenue": true}, `{"tags":{"revenue":true}}`},
		{map[string]any{"revenue": nil, "value": nil, "x": nil}, `{"tags":{"x":null}}`},
		{map[string]any{"revenue": 0, "value": 0}, `{"revenue":0,"value":0.0,"tags":{"revenue":0,"value":0}}`},
		{map[string]any{"revenue": -5, "value": "12.50"}, `{"revenue":-5,"value":12.5,"tags":{"revenue":-5,"value":"12.50"}}`},
		{map[string]any{"value": " 7 "}, `{"value":7.0,"tags":{"value":" 7 "}}`}, {map[string]any{"value": "1e3"}, `{"value":1000.0,"tags":{"value":"1e3"}}`},
		{map[string]any{"value": "nan"}, `{"tags":{"value":"nan"}}`}, {map[string]any{"value": []int{1}}, `{"tags":{"value":[1]}}`},
		{map[string]any{"a": map[string]any{"b": 1, "value": nil}, "list": []any{1, 2.0, nil}}, `{"tags":{"a":{"b":1},"list":[1,2.0,null]}}`},
		{map[string]any{"bad": math.NaN(), "worse": func() {}, "cyclic": cyclic, "nested": []any{math.Inf(1)}, "good": 1}, `{"tags":{"good":1}}`},
		{map[string]any{"text": "\x00ü\"", "raw": json.RawMessage(`{"k":1}`), "ints": []int{1}, "ptr": &row42}, `{"tags":{"ints":[1],"ptr":42,"raw":{"k":1},"text":"\u0000ü\""}}`},
	} {
		require.NoError(t, c.NewUser("u", nil).TrackEvent(t.Context(), "bought", row.tags))
		var visitor struct {
			Snapshots []struct {
				Events []map[string]json.RawMessage `json:"events"`
			} `json:"snapshots"`
		}
		require.NoError(t, json.Unmarshal(events.events[0].Body, &visitor), "%s", events.events[0].Body)
		events.take(t)
		sent := visitor.Snapshots[0].Events[0]
		got := "{"
		for _, name := range []string{"revenue", "value", "tags"} {
			if sent[name] != nil {
				if got != "{" {
					got += ","
				}
				got += `"` + name + `":` + string(sent[name])
			}
		}
		require.Equal(t, row.want, got+"}", "%v", row.tags)
	}
	require.Contains(t, book.String(), "event tags left out")
	require.Contains(t, book.String(), "tags=4")
}

var row42 = 42

// Attributes are copied in and out, and change for later decisions only.
// Source: decide.md DC-42 to DC-44.
func TestAttributesAreCopied(t *testing.T) {
	c, _ := newClient(t, worked(t))
	given := map[string]any{"plan": "pro"}
	u := c.NewUser("u1", given)
	given["plan"] = "basic"
	u.Attributes()["plan"] = "basic"
	require.Equal(t, "a", u.Decide(t.Context(), "main").VariationKey)

	before := u.Decide(t.Context(), "main")
	u.SetAttribute("plan", "basic")
	u.SetAttribute("age", nil)
	require.Equal(t, map[string]any{"plan": "basic", "age": nil}, u.Attributes())
	require.Equal(t, "eoff", u.Decide(t.Context(), "main").VariationKey)
	require.Equal(t, map[string]any{"plan": "pro"}, before.User.Attributes())
	require.Equal(t, "u1", before.User.ID())

	// A decision's context is one of its own.
	before.User.SetAttribute("plan", "other")
	require.Equal(t, "basic", u.Attributes()["plan"])
	u.SetForcedDecision(DecisionContext{FlagKey: "main"}, ForcedDecision{"b"})
	_, ok := before.User.ForcedDecision(DecisionContext{FlagKey: "main"})
	require.False(t, ok)

	require.Equal(t, map[string]any{}, c.NewUser("", nil).Attributes())
	require.Empty(t, c.NewUser("", nil).ID())
}

// Source: decide.md section 11, DC-45.
func TestForcedDecisions(t *testing.T) {
	c, _ := newClient(t, worked(t))
	u := c.NewUser("u8", nil)
	flag, rule := DecisionContext{FlagKey: "main"}, DecisionContext{"main", "exp"}
	require.True(t, u.SetForcedDecision(flag, ForcedDecision{"d1on"}))
	require.True(t, u.SetForcedDecision(rule, ForcedDecision{"a"}))
	require.True(t, u.SetForcedDecision(DecisionContext{"nope", "nope"}, ForcedDecision{"nope"}), "nothing is validated")
	got, ok := u.ForcedDecision(flag)
	require.True(t, ok)
	require.Equal(t, ForcedDecision{"d1on"}, got)
	require.Equal(t, "d1on", u.Decide(t.Context(), "main").VariationKey)
	require.True(t, u.SetForcedDecision(flag, ForcedDecision{"b"}), "it replaces")
	require.Equal(t, "b", u.Decide(t.Context(), "main").VariationKey)
	require.True(t, u.RemoveForcedDecision(flag))
	require.False(t, u.RemoveForcedDecision(flag))
	_, ok = u.ForcedDecision(flag)
	require.False(t, ok)
	d := u.Decide(t.Context(), "main")
	require.Equal(t, "a", d.VariationKey)
	require.Equal(t, "exp", d.RuleKey)
	require.True(t, u.RemoveAllForcedDecisions())
	require.True(t, u.RemoveAllForcedDecisions())
	_, ok = u.ForcedDecision(rule)
	require.False(t, ok)
	require.Equal(t, "eoff", u.Decide(t.Context(), "main").VariationKey)
	// Contexts are values.
	require.Equal(t, 1, map[DecisionContext]int{flag: 1}[DecisionContext{FlagKey: "main"}])
}

func TestQualifiedSegments(t *testing.T) {
	c, _ := newClient(t, worked(t))
	u := c.NewUser("u8", nil)
	_, isKnown := u.QualifiedSegments()
	require.False(t, isKnown)
	require.False(t, u.IsQualifiedFor("vip"))
	given := []string{"vip", "x"}
	u.SetQualifiedSegments(given)
	given[0] = "changed"
	got, isKnown := u.QualifiedSegments()
	require.True(t, isKnown)
	require.Equal(t, []string{"vip", "x"}, got)
	got[0] = "changed"
	require.True(t, u.IsQualifiedFor("vip"))
	require.False(t, u.IsQualifiedFor("VIP"))
	require.Equal(t, "d2on", u.Decide(t.Context(), "main").VariationKey)
	u.SetQualifiedSegments([]string{})
	got, isKnown = u.QualifiedSegments()
	require.True(t, isKnown)
	require.Empty(t, got)
	u.SetQualifiedSegments(nil)
	_, isKnown = u.QualifiedSegments()
	require.False(t, isKnown)
}

// fetcherFunc is a segment fetcher.
type fetcherFunc func(context.Context, SegmentQuery) ([]string, error)

func (f fetcherFunc) FetchSegments(ctx context.Context, q SegmentQuery) ([]string, error) {
	return f(ctx, q)
}

func integrated(t *testing.T) map[string]any {
	datafile := worked(t)
	datafile["integrations"] = []any{map[string]any{"key": "odp", "host": "https://odp.example", "publicKey": "pk"}}
	return datafile
}

// Source: odp.md section 3, OD-7 to OD-11; pages.md O-1, U-8.
func TestFetchQualifiedSegments(t *testing.T) {
	var asked []SegmentQuery
	answer, failure := []string{"vip"}, error(nil)
	fetcher := fetcherFunc(func(_ context.Context, q SegmentQuery) ([]string, error) {
		asked = append(asked, q)
		return answer, failure
	})
	c, _ := newClient(t, integrated(t), WithSegmentFetcher(fetcher))
	u := c.NewUser("u8", nil)
	require.NoError(t, u.FetchQualifiedSegments(t.Context(), IgnoreSegmentsCache, ResetSegmentsCache))
	require.Equal(t, []SegmentQuery{{UserID: "u8", Segments: []string{"vip"}, Options: IgnoreSegmentsCache | ResetSegmentsCache, Host: "https://odp.example", PublicKey: "pk"}}, asked)
	require.True(t, u.IsQualifiedFor("vip"))
	require.Equal(t, "d2on", u.Decide(t.Context(), "main").VariationKey)

	answer = nil
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	got, isKnown := u.QualifiedSegments()
	require.True(t, isKnown, "none is an answer")
	require.Empty(t, got)

	u.SetQualifiedSegments([]string{"vip"})
	failure = errors.New("down")
	require.ErrorIs(t, u.FetchQualifiedSegments(t.Context()), failure)
	_, isKnown = u.QualifiedSegments()
	require.False(t, isKnown, "a failure loses the old ones")

	// Each way there is nothing to ask.
	off, _ := newClient(t, integrated(t), WithSegmentFetcher(fetcher), WithoutODP())
	apart, _ := newClient(t, worked(t), WithSegmentFetcher(fetcher))
	waiting, err := New(WithSDKKey("k"), WithSegmentFetcher(fetcher))
	require.NoError(t, err)
	defer waiting.Close(context.Background())
	closed, _ := newClient(t, integrated(t), WithSegmentFetcher(fetcher))
	require.NoError(t, closed.Close(t.Context()))
	numAsked := len(asked)
	for want, c := range map[error]*Client{ErrODPDisabled: off, ErrODPNotIntegrated: apart, ErrNotReady: waiting, ErrClosed: closed} {
		u := c.NewUser("u8", nil)
		u.SetQualifiedSegments([]string{"vip"})
		require.ErrorIs(t, u.FetchQualifiedSegments(t.Context()), want)
		require.False(t, u.IsQualifiedFor("vip"))
		called := make(chan error, 1)
		require.ErrorIs(t, u.FetchQualifiedSegmentsAsync(t.Context(), func(err error) { called <- err }).Wait(t.Context()), want)
		require.ErrorIs(t, <-called, want)
	}
	require.Len(t, asked, numAsked)

	// No audience asks for a segment: nothing is fetched.
	datafile := integrated(t)
	datafile["typedAudiences"] = []any{}
	for _, key := range []string{"experiments", "rollouts", "holdouts"} {
		datafile[key] = []any{}
	}
	datafile["featureFlags"], datafile["localHoldouts"], datafile["groups"] = []any{}, []any{}, []any{}
	plain, _ := newClient(t, datafile)
	u = plain.NewUser("u8", nil)
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	_, isKnown = u.QualifiedSegments()
	require.True(t, isKnown)
}

func TestFetchQualifiedSegmentsAsync(t *testing.T) {
	release := make(chan struct{})
	fetcher := fetcherFunc(func(ctx context.Context, _ SegmentQuery) ([]string, error) {
		select {
		case <-release:
			return []string{"vip"}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	errs := &errorLog{}
	c, _ := newClient(t, integrated(t), WithSegmentFetcher(fetcher), WithErrorHandler(errs.handle))
	u := c.NewUser("u8", nil)
	outcome := make(chan bool, 1)
	fetch := u.FetchQualifiedSegmentsAsync(t.Context(), func(err error) { outcome <- err == nil && u.IsQualifiedFor("vip") })
	short, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, fetch.Wait(short), context.Canceled)
	close(release)
	require.NoError(t, fetch.Wait(t.Context()))
	require.True(t, <-outcome, "the segments are there when the callback comes")
	<-fetch.Done()

	// A callback's panic is its own affair.
	require.NoError(t, u.FetchQualifiedSegmentsAsync(t.Context(), func(error) { panic("secret") }).Wait(t.Context()))
	var panicked *PanicError
	require.Len(t, errs.all(), 1)
	require.ErrorAs(t, errs.all()[0], &panicked)
	require.NotContains(t, panicked.Error(), "secret")

	// The caller's context ends a fetch, and so does Close, which waits for it.
	release = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	fetch = u.FetchQualifiedSegmentsAsync(ctx, nil)
	cancel()
	require.ErrorIs(t, fetch.Wait(t.Context()), context.Canceled)
	ended := make(chan error, 1)
	u.FetchQualifiedSegmentsAsync(t.Context(), func(err error) { ended <- err })
	require.NoError(t, c.Close(t.Context()))
	select {
	case err := <-ended:
		require.ErrorIs(t, err, ErrClosed)
	default:
		t.Fatal("Close did not wait for the callback")
	}
}

// Everything at once, on one user and one client. Its worth is under -race.
func TestConcurrentUse(t *testing.T) {
	n := NewNotifications()
	var told sync.Map
	n.OnDecision(func(d DecisionNotification) { told.Store(d.Info.(*FlagInfo).FlagKey, len(d.Attributes)) })
	fetcher := fetcherFunc(func(context.Context, SegmentQuery) ([]string, error) { return []string{"vip"}, nil })
	c, events := newClient(t, integrated(t), WithNotifications(n), WithSegmentFetcher(fetcher))
	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	var group sync.WaitGroup
	const rounds = 200
	for _, f := range []func(int){
		func(i int) { u.SetAttribute("age", i) },
		func(i int) { u.SetAttribute(fmt.Sprint("k", i%5), i) },
		func(int) { _ = u.Attributes() },
		func(i int) {
			u.SetForcedDecision(DecisionContext{FlagKey: "empty", RuleKey: fmt.Sprint(i % 3)}, ForcedDecision{"x"})
		},
		func(i int) { u.RemoveForcedDecision(DecisionContext{FlagKey: "empty", RuleKey: fmt.Sprint(i % 3)}) },
		func(int) { u.RemoveAllForcedDecisions() },
		func(i int) { u.SetQualifiedSegments([]string{"s", fmt.Sprint(i)}) },
		func(int) { u.IsQualifiedFor("vip"); u.QualifiedSegments() },
		func(int) { _ = u.FetchQualifiedSegments(t.Context()) },
		func(int) { _ = u.FetchQualifiedSegmentsAsync(t.Context(), nil).Wait(t.Context()) },
		func(int) { _ = u.Decide(t.Context(), "main", IncludeReasons).Variables.Map() },
		func(int) { _ = u.DecideForKeys(t.Context(), []string{"main", "grouped"}).Map() },
		func(int) { _ = u.DecideAll(t.Context()).Len() },
		func(int) { _ = u.TrackEvent(t.Context(), "bought", map[string]any{"value": 1}) },
		func(i int) { _ = c.SetForcedVariation("exp", "u1", []string{"a", "b"}[i%2]) },
		func(int) { c.ForcedVariation("exp", "u1"); _ = c.RemoveForcedVariation("exp", "u1") },
		func(int) { _, _ = c.Activate(t.Context(), "exp", "u1", nil); _ = c.OptimizelyConfig().Revision },
		func(int) { id := n.OnTrack(func(TrackNotification) {}); n.Remove(id) },
	} {
		group.Go(func() {
			for i := range rounds {
				f(i)
			}
		})
	}
	group.Wait()
	events.mu.Lock()
	defer events.mu.Unlock()
	uuids := map[string]bool{}
	for _, e := range events.events {
		require.True(t, json.Valid(e.Body))
		require.False(t, uuids[e.ID], "a uuid twice")
		uuids[e.ID] = true
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, e.ID)
	}
	require.Greater(t, len(uuids), rounds*5)
}
