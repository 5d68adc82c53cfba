package odp

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// A sink is an EventAPI in memory.
type sink struct {
	mu      sync.Mutex
	batches []EventBatch
	times   []time.Time
	answers []error // of the next calls
	delay   time.Duration
}

func (s *sink) SendEvents(ctx context.Context, b EventBatch) error {
	s.mu.Lock()
	s.batches, s.times = append(s.batches, b), append(s.times, time.Now())
	var err error
	if len(s.answers) > 0 {
		err, s.answers = s.answers[0], s.answers[1:]
	}
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 && sleep(ctx, delay) != nil {
		return cancelled(ctx)
	}
	return err
}

func (s *sink) sizes() (sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.batches {
		sizes = append(sizes, s.batches[i].Events)
	}
	return sizes
}

var sender = Sender{Name: "sortition", Version: "9.9"}

// newEvents makes an Events that runs until the test closes it.
func newEvents(t testing.TB, i Integration, change func(*EventsConfig)) (e *Events, failed *[]error) {
	t.Helper()
	failed = new([]error)
	cfg := DefaultEventsConfig()
	cfg.Sender = sender
	cfg.OnFailure = func(_ EventBatch, err error) { *failed = append(*failed, err) }
	if change != nil {
		change(&cfg)
	}
	e, err := NewEvents(cfg)
	require.NoError(t, err)
	e.Update(i)
	return e, failed
}

// run runs an Events; stop closes it and waits.
func run(t testing.TB, e *Events) (stop func()) {
	t.Helper()
	done := make(chan error, 1) // 1: Run ends whether or not the test still waits
	go func() { done <- e.Run(context.Background()) }()
	return func() {
		t.Helper()
		remains, err := e.Close(context.Background())
		require.NoError(t, err)
		require.Empty(t, remains)
		require.NoError(t, <-done)
	}
}

var here = Integration{Host: "http://odp.test", PublicKey: "k", Segments: []string{"vip"}}

func viewed(n int) Event {
	return Event{Action: "viewed", Identifiers: map[string]string{FSUserID: fmt.Sprint("u", n)}, ID: fmt.Sprint(n)}
}

// TestEventWire is odp.md section 5.1 over HTTP.
func TestEventWire(t *testing.T) {
	em := newODP(t)
	e, failed := newEvents(t, integrationOf(em, "vip"), func(c *EventsConfig) { c.Sender.Name = "python-sdk" })
	stop := run(t, e)
	data := map[string]any{"sku": "<9>", "price": 1.5, "n": nil, "b": true, "big": json.Number("12345678901234567890"), "u8": uint8(7), "f32": float32(0.5)}
	identifiers := map[string]string{"email": "a@b.c", "FS_USER_ID": "u1"}
	require.NoError(t, e.SendEvent(deadline(t), Event{Action: "viewed", Identifiers: identifiers, Data: data}))
	require.NoError(t, e.SendEvent(deadline(t), Event{
		Action: "viewed", Identifiers: map[string]string{"fs_user_id": "u2"},
		Data: map[string]any{"idempotence_id": "abc", "data_source": "mine"},
	}))
	require.NoError(t, e.SendEvent(deadline(t), Event{Type: "custom", Action: "viewed", Identifiers: map[string]string{"vuid": "vuid_1"}, ID: "given"}))
	stop()
	require.Empty(t, *failed)
	all := em.Attempts(string(emulator.RouteODPEvents))
	require.Len(t, all, 1)
	require.Empty(t, all[0].Problems)
	require.Equal(t, 202, all[0].Status)
	require.Equal(t, "application/json", all[0].Header.Get("Content-Type"))
	require.Equal(t, testKey, all[0].Header.Get("X-Api-Key"))
	var got []map[string]any
	require.NoError(t, json.Unmarshal(all[0].Body, &got))
	id := got[0]["data"].(map[string]any)["idempotence_id"].(string)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
	require.Equal(t, `[{"type":"fullstack","action":"viewed","identifiers":{"email":"a@b.c","fs_user_id":"u1"},"data":{"idempotence_id":"`+id+
		`","data_source_type":"sdk","data_source":"python-sdk","data_source_version":"9.9","b":true,"big":12345678901234567890,"f32":0.5,"n":null,"price":1.5,"sku":"<9>","u8":7}},`+
		`{"type":"fullstack","action":"viewed","identifiers":{"fs_user_id":"u2"},"data":{"idempotence_id":"abc","data_source_type":"sdk","data_source":"mine","data_source_version":"9.9"}},`+
		`{"type":"custom","action":"viewed","identifiers":{"vuid":"vuid_1"},"data":{"idempotence_id":"given","data_source_type":"sdk","data_source":"python-sdk","data_source_version":"9.9"}}]`,
		string(all[0].Body))
	require.Equal(t, map[string]string{"email": "a@b.c", "FS_USER_ID": "u1"}, identifiers, "the caller's map is not changed")
}

// TestAliases is the table of odp.md OD-25, as changed by OD-P9.
func TestAliases(t *testing.T) {
	type ids = map[string]string
	for _, row := range []struct{ given, want ids }{
		{ids{"fs-user-id": "a"}, ids{"fs_user_id": "a"}},
		{ids{"FS_USER_ID": "a"}, ids{"fs_user_id": "a"}},
		{ids{"Fs-User-Id": "a"}, ids{"fs_user_id": "a"}},
		{ids{"fsuserid": "a"}, ids{"fsuserid": "a"}},
		{ids{"fs_user_id": "b", "FS_USER_ID": "a"}, ids{"fs_user_id": "b", "FS_USER_ID": "a"}},
		{ids{"FS-USER-ID": "a", "FS_USER_ID": "b"}, ids{"fs_user_id": "a", "FS_USER_ID": "b"}},
		{ids{"fs_user_id": "", "FS_USER_ID": "b"}, ids{"fs_user_id": "b"}},
		{ids{"vuid": "v", "fs-user-id": "a"}, ids{"vuid": "v", "fs_user_id": "a"}},
	} {
		e := Event{Action: "a", Identifiers: row.given, ID: "1"}
		text, err := AppendEvent(nil, &e, sender)
		require.NoError(t, err)
		var got struct{ Identifiers ids }
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, row.want, got.Identifiers)
	}
}

// TestSendChecks is the table of checks of odp.md section 5.2, in its order.
func TestSendChecks(t *testing.T) {
	api := &sink{}
	good := viewed(1)
	with := func(change func(*Event)) Event { e := good; change(&e); return e }
	bad := with(func(e *Event) { e.Data = map[string]any{"x": []int{1}} })
	send := func(disabled bool, i *Integration, event Event) error {
		cfg := DefaultEventsConfig()
		cfg.API, cfg.IsDisabled, cfg.OnFailure, cfg.CloseTimeout = api, disabled, func(EventBatch, error) {}, time.Millisecond
		e, err := NewEvents(cfg)
		require.NoError(t, err)
		if i != nil {
			e.Update(*i)
		}
		err = e.SendEvent(t.Context(), event)
		_, _ = e.Close(t.Context())
		return err
	}
	noAction := with(func(e *Event) { e.Action = "" })
	noIdentifier := with(func(e *Event) { e.Identifiers = nil })
	require.ErrorContains(t, send(true, nil, noAction), "action")
	require.ErrorContains(t, send(true, nil, noIdentifier), "identifier")
	require.ErrorIs(t, send(true, nil, bad), ErrNotReady)
	require.ErrorIs(t, send(true, &Integration{}, bad), ErrDisabled)
	require.ErrorIs(t, send(false, &Integration{}, bad), ErrNotIntegrated)
	require.ErrorIs(t, send(false, &Integration{Host: "h"}, bad), ErrNotIntegrated)
	require.ErrorIs(t, send(false, &here, bad), ErrInvalidEvent)
	require.NoError(t, send(false, &here, with(func(e *Event) { e.Type = "" })))

	type named string
	for _, ok := range []any{nil, "", "x", 1, int8(1), uint64(math.MaxUint64), 1.5, float32(1), true, json.Number("1e3"), named("x")} {
		require.NoError(t, send(false, &here, with(func(e *Event) { e.Data = map[string]any{"x": ok} })), "%T", ok)
	}
	for _, wrong := range []any{[]string{}, map[string]any{}, struct{}{}, &good, math.NaN(), math.Inf(1), float32(math.Inf(-1)), json.Number("x"), json.Number(""), json.Number("NaN"), func() {}} {
		err := send(false, &here, with(func(e *Event) { e.Data = map[string]any{"secret-name": wrong} }))
		require.ErrorIs(t, err, ErrInvalidEvent, "%T", wrong)
		require.NotContains(t, err.Error(), "secret-name")
	}
	for _, wrong := range []map[string]string{{}, {"email": ""}, {"email": "a", "vuid": ""}, {"email": "\xff"}} {
		require.ErrorIs(t, send(false, &here, with(func(e *Event) { e.Identifiers = wrong })), ErrInvalidEvent)
	}
	require.False(t, IsTransient(ErrInvalidEvent))
}

// TestIdentify is odp.md section 5.3.
func TestIdentify(t *testing.T) {
	api := &sink{}
	e, _ := newEvents(t, here, func(c *EventsConfig) { c.API = api })
	stop := run(t, e)
	require.NoError(t, e.Identify(t.Context(), map[string]string{FSUserID: "u"}))
	require.NoError(t, e.Identify(t.Context(), map[string]string{FSUserID: "u", VUID: ""}))
	require.NoError(t, e.Identify(t.Context(), nil))
	given := map[string]string{FSUserID: "u", VUID: "vuid_1", "email": ""}
	require.NoError(t, e.Identify(t.Context(), given))
	e.Update(Integration{})
	require.NoError(t, e.Identify(t.Context(), given), "skipped")
	stop()
	require.Equal(t, []int{1}, api.sizes())
	require.Len(t, given, 3)
	body := string(api.batches[0].Body)
	require.Contains(t, body, `{"type":"fullstack","action":"identified","identifiers":{"fs_user_id":"u","vuid":"vuid_1"},"data":{"idempotence_id":"`)
	require.Contains(t, body, `"data_source_version":"9.9"}}]`, "common data only")
	for _, disabled := range []bool{true, false} {
		cfg := DefaultEventsConfig()
		cfg.API, cfg.IsDisabled, cfg.OnFailure, cfg.CloseTimeout = api, disabled, func(EventBatch, error) {}, time.Millisecond
		e, err := NewEvents(cfg)
		require.NoError(t, err)
		require.NoError(t, e.Identify(t.Context(), given), "not ready")
	}
}

// TestBatches is OD-31: 23 quick events are batches of 10, 10 and 3, the last when the
// first of it is a second old; an interval of 0 makes batches of one.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &sink{}
		e, _ := newEvents(t, here, func(c *EventsConfig) { c.API = api })
		stop := run(t, e)
		begin := time.Now()
		for i := range 23 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		synctest.Wait()
		require.Equal(t, []int{10, 10}, api.sizes())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []int{10, 10, 3}, api.sizes())
		require.Equal(t, time.Second, api.times[2].Sub(begin))
		// The deadline is that of the first event.
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		time.Sleep(900 * time.Millisecond)
		require.NoError(t, e.SendEvent(t.Context(), viewed(2)))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []int{10, 10, 3, 2}, api.sizes())
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		e.Flush()
		synctest.Wait()
		require.Equal(t, []int{10, 10, 3, 2, 1}, api.sizes())
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		stop() // sends what is left
		require.Equal(t, []int{10, 10, 3, 2, 1, 1}, api.sizes())
		require.ErrorIs(t, e.SendEvent(t.Context(), viewed(1)), ErrClosed)

		one := &sink{}
		e, _ = newEvents(t, here, func(c *EventsConfig) { c.API, c.FlushInterval = one, 0 })
		stop = run(t, e)
		for i := range 3 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		synctest.Wait()
		require.Equal(t, []int{1, 1, 1}, one.sizes())
		stop()
	})
}

// TestUpdateFlushes: a batch goes where it was made for. Source: odp.md OD-39, OD-40.
func TestUpdateFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &sink{}
		e, _ := newEvents(t, here, func(c *EventsConfig) { c.API = api })
		stop := run(t, e)
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		require.False(t, e.Update(here))
		synctest.Wait()
		require.Empty(t, api.sizes(), "the same integration flushes nothing")
		require.True(t, e.Update(Integration{Host: "http://other.test", PublicKey: "k2"}))
		require.NoError(t, e.SendEvent(t.Context(), viewed(2)))
		synctest.Wait()
		require.Equal(t, []int{1}, api.sizes())
		require.True(t, e.Update(Integration{}))
		require.ErrorIs(t, e.SendEvent(t.Context(), viewed(3)), ErrNotIntegrated)
		stop()
		require.Equal(t, "http://odp.test k", api.batches[0].Host+" "+api.batches[0].PublicKey)
		require.Equal(t, "http://other.test k2", api.batches[1].Host+" "+api.batches[1].PublicKey)
	})
}

// TestRetries is OD-33 with OD-P11, over HTTP but for the clock.
func TestRetries(t *testing.T) {
	for _, row := range []struct {
		name     string
		answers  []error
		requests int
		fails    bool
	}{
		{"accepted", nil, 1, false},
		{"400", []error{&Error{Class: HTTPError, Status: 400}}, 1, true},
		{"403", []error{&Error{Class: HTTPError, Status: 403}}, 1, true},
		{"500 twice", []error{&Error{Class: HTTPError, Status: 500}, &Error{Class: HTTPError, Status: 500}}, 3, false},
		{"429 once", []error{&Error{Class: HTTPError, Status: 429}}, 2, false},
		{"an error of somebody else", []error{fmt.Errorf("refused")}, 2, false},
		{"network", []error{ErrNetwork, ErrNetwork, ErrNetwork, ErrNetwork, ErrNetwork}, 4, true},
		{"malformed URL", []error{ErrInvalidHost}, 1, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &sink{answers: row.answers}
				e, failed := newEvents(t, here, func(c *EventsConfig) { c.API = api })
				stop := run(t, e)
				require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
				time.Sleep(10 * time.Second)
				stop()
				require.Len(t, api.sizes(), row.requests)
				for i := range api.batches {
					require.Equal(t, api.batches[0].Body, api.batches[i].Body)
				}
				for i, least := range []time.Duration{200, 400, 800} {
					if i+1 < row.requests {
						gap := api.times[i+1].Sub(api.times[i])
						require.GreaterOrEqual(t, gap, least*time.Millisecond)
						require.Less(t, gap, least*time.Millisecond*5/4)
					}
				}
				require.Equal(t, row.fails, len(*failed) == 1)
				require.Equal(t, e.Stats().Taken, e.Stats().Delivered+e.Stats().Failed)
			})
		})
	}
}

// TestPostStatuses: what the API makes of answers.
func TestPostStatuses(t *testing.T) {
	em := newODP(t)
	api := NewREST(time.Second, nil)
	defer api.Close()
	text, err := AppendEvent(nil, &Event{Action: "a", Identifiers: map[string]string{"email": "x"}, ID: "1"}, sender)
	require.NoError(t, err)
	b := EventBatch{Host: em.URLs().ODP, PublicKey: testKey, Events: 1, Body: []byte("[" + string(text) + "]")}
	for status, isTransient := range map[int]bool{200: false, 202: false, 204: false, 301: false, 307: false, 400: false, 404: false, 408: true, 409: false, 425: true, 429: true, 500: true, 503: true} {
		em.Script(string(emulator.RouteODPEvents), status)
		err := api.SendEvents(deadline(t), b)
		require.Equal(t, status >= 400, err != nil, "%d: %v", status, err)
		require.Equal(t, isTransient, IsTransient(err))
	}
	for _, fault := range []emulator.Fault{{Cut: emulator.CutAfter}, {Cut: emulator.CutBefore}, {Hang: true}} {
		fault.Route, fault.Times = string(emulator.RouteODPEvents), 1
		_, err := em.AddFault(fault)
		require.NoError(t, err)
		require.ErrorIs(t, api.SendEvents(deadline(t), b), ErrNetwork)
	}
	_, err = em.AddFault(emulator.Fault{Route: string(emulator.RouteODPEvents), Status: 429, RetryAfter: "3", Times: 1})
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, retryAfterOf(api.SendEvents(deadline(t), b)))
	b.Host = "://"
	require.ErrorIs(t, api.SendEvents(deadline(t), b), ErrInvalidHost)
}

// TestFull: no more than the capacity, and nothing taken is dropped.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &sink{delay: time.Minute}
		e, _ := newEvents(t, here, func(c *EventsConfig) { c.API, c.Capacity, c.CloseTimeout = api, 25, time.Hour })
		stop := run(t, e)
		for i := range 25 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		synctest.Wait()
		require.ErrorIs(t, e.SendEvent(t.Context(), viewed(26)), ErrFull)
		stop()
		require.Equal(t, []int{10, 10, 5}, api.sizes())
		require.EqualValues(t, 25, e.Stats().Delivered)
	})
}

// TestBoundedClose hands back what isn't sent in time. Source: odp.md OD-P11.
func TestBoundedClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &sink{delay: time.Hour}
		e, failed := newEvents(t, here, func(c *EventsConfig) { c.API = api })
		done := make(chan error, 1) // one answer
		go func() { done <- e.Run(context.Background()) }()
		for i := range 15 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		synctest.Wait()
		before := time.Now()
		remains, err := e.Close(context.Background())
		require.ErrorContains(t, err, "15 not delivered")
		require.Equal(t, 10*time.Second, time.Since(before))
		require.Len(t, remains, 2)
		require.Equal(t, 10, remains[0].Events)
		require.NoError(t, <-done)
		require.Empty(t, *failed)
		require.Zero(t, e.Stats().Held)

		// Never run: nothing is waited for.
		e, _ = newEvents(t, here, func(c *EventsConfig) { c.API = api })
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		remains, err = e.Close(context.Background())
		require.Error(t, err)
		require.Len(t, remains, 1)
	})
}

// A chanQueue is a queue that delivers as an outbox does: several at once.
type chanQueue struct {
	t       testing.TB
	events  *Events
	mu      sync.Mutex
	group   sync.WaitGroup
	results []error
}

func (q *chanQueue) Append(ctx context.Context, r Record) error {
	q.group.Go(func() {
		err := q.events.Deliver(ctx, r)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.results = append(q.results, err)
	})
	return nil
}

// TestQueue: events of a queue meet in batches, are tried until they are accepted or
// refused, and given back when Run ends.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &chanQueue{t: t}
		api := &sink{answers: []error{ErrNetwork, ErrNetwork, ErrNetwork, ErrNetwork, ErrNetwork, ErrNetwork, nil, &Error{Class: HTTPError, Status: 400}}}
		e, failed := newEvents(t, here, func(c *EventsConfig) { c.API, c.Queue = api, q })
		q.events = e
		ctx, end := context.WithCancel(context.Background())
		done := make(chan error, 1) // one answer
		go func() { done <- e.Run(ctx) }()
		for i := range 13 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		q.group.Wait()
		require.Equal(t, []int{10, 10, 10, 10, 10, 10, 10, 3}, api.sizes())
		refused := 0
		for _, err := range q.results {
			if err != nil {
				require.ErrorIs(t, err, ErrHTTP)
				require.False(t, IsTransient(err))
				refused++
			}
		}
		require.Equal(t, 3, refused)
		require.Empty(t, *failed, "the queue keeps what was refused")

		q.results = nil
		api.answers = []error{ErrNetwork}
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		time.Sleep(1100 * time.Millisecond)
		require.NoError(t, e.SendEvent(t.Context(), viewed(2)))
		synctest.Wait()
		end()
		require.ErrorIs(t, <-done, context.Canceled)
		q.group.Wait()
		require.Len(t, q.results, 2)
		for _, err := range q.results {
			require.True(t, IsTransient(err), "%v", err)
		}
		_, err := e.Close(context.Background())
		require.NoError(t, err)
		require.Error(t, e.SendEvent(t.Context(), viewed(3)))
	})
}

// TestDeterministicIDs: an injected id is the event's, made once.
func TestDeterministicIDs(t *testing.T) {
	api := &sink{answers: []error{ErrNetwork}}
	n := 0
	e, _ := newEvents(t, here, func(c *EventsConfig) {
		c.API, c.NewID = api, func() string { n++; return fmt.Sprint("id-", n) }
	})
	stop := run(t, e)
	require.NoError(t, e.SendEvent(t.Context(), Event{Action: "a", Identifiers: map[string]string{"email": "x"}}))
	stop()
	require.Len(t, api.batches, 2)
	for i := range api.batches {
		require.Equal(t, 1, strings.Count(string(api.batches[i].Body), `"idempotence_id":"id-1"`))
	}
}

func TestEventsConfig(t *testing.T) {
	_, err := NewEvents(EventsConfig{RequestTimeout: -1, FlushInterval: -1, BatchSize: 11})
	for _, part := range []string{"request timeout", "batch size", "flush interval", "capacity", "concurrency", "attempt", "close timeout", "somebody"} {
		require.ErrorContains(t, err, part)
	}
}

// FuzzEvent: what is taken is an event that ODP takes too.
func FuzzEvent(f *testing.F) {
	f.Add("", "a", "fs-user-id", "u", "k", "v", 1.5)
	f.Fuzz(func(t *testing.T, kind, action, name, id, key, text string, number float64) {
		e := Event{Type: kind, Action: action, Identifiers: map[string]string{name: id}, Data: map[string]any{key: text, "n": number}, ID: "1"}
		out, err := AppendEvent(nil, &e, sender)
		if err != nil {
			return
		}
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil || len(got) != 4 || got["action"] == "" || got["type"] == "" {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

// TestQueueBeforeReadiness: with a queue, events from before the first Update are checked
// and kept, and go where that says. Source: pages.md O-10.
func TestQueueBeforeReadiness(t *testing.T) {
	for name, row := range map[string]struct {
		update *Integration
		want   error // of the deliveries
		bodies []int
	}{
		"integrated":     {&here, nil, []int{2}},
		"not integrated": {&Integration{}, ErrNotIntegrated, nil},
		"never":          {nil, ErrClosed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, api := &chanQueue{t: t}, &sink{}
				cfg := DefaultEventsConfig()
				cfg.API, cfg.Queue, cfg.OnFailure = api, q, func(EventBatch, error) { t.Error("the queue keeps what was refused") }
				e, err := NewEvents(cfg)
				require.NoError(t, err)
				q.events = e
				stop := run(t, e)
				require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
				require.NoError(t, e.SendEvent(t.Context(), viewed(2)))
				require.ErrorIs(t, e.SendEvent(t.Context(), Event{Action: "a"}), ErrInvalidEvent)
				require.ErrorIs(t, e.SendEvent(t.Context(), Event{Action: "a", Identifiers: map[string]string{"email": ""}}), ErrInvalidEvent)
				time.Sleep(time.Hour)
				require.Empty(t, q.results, "they wait")
				if row.update != nil {
					e.Update(*row.update)
					q.group.Wait()
				}
				stop()
				q.group.Wait()
				require.Equal(t, row.bodies, api.sizes())
				require.Len(t, q.results, 2)
				for _, err := range q.results {
					require.ErrorIs(t, err, row.want)
				}
				for _, b := range api.batches {
					require.Equal(t, here.Host, b.Host)
					require.Equal(t, here.PublicKey, b.PublicKey)
				}
			})
		})
	}
	cfg := DefaultEventsConfig()
	cfg.IsDisabled, cfg.Queue, cfg.OnFailure = true, &chanQueue{t: t}, func(EventBatch, error) {}
	e, err := NewEvents(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, e.SendEvent(t.Context(), viewed(1)), ErrDisabled)
	_, err = e.Close(t.Context())
	require.NoError(t, err)
}

// TestDrain: what comes after Drain doesn't wait for a batch to fill, but still meets
// others while a request is under way.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, api := &chanQueue{t: t}, &sink{delay: time.Second}
		e, _ := newEvents(t, here, func(c *EventsConfig) { c.API, c.Queue, c.FlushInterval = api, q, time.Hour })
		q.events = e
		stop := run(t, e)
		require.NoError(t, e.SendEvent(t.Context(), viewed(0)))
		synctest.Wait()
		require.Empty(t, api.sizes())
		began := time.Now()
		e.Drain()
		synctest.Wait() // the first is under way
		for i := range 13 {
			require.NoError(t, e.SendEvent(t.Context(), viewed(i)))
		}
		q.group.Wait()
		require.Equal(t, []int{1, 10, 3}, api.sizes())
		require.NoError(t, e.SendEvent(t.Context(), viewed(1)))
		q.group.Wait()
		require.Equal(t, []int{1, 10, 3, 1}, api.sizes())
		require.Equal(t, 4*time.Second, time.Since(began), "nothing but the requests took time")
		stop()
	})
}
