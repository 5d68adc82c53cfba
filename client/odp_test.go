package client

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/odp"
	"sortition/sinks"
)

// withODP is a project integrated with an emulator's ODP.
func withODP(t *testing.T) (*emulator.Server, map[string]any) {
	t.Helper()
	em := emulator.Start(t, emulator.Options{ODPKey: "pk"})
	datafile := integrated(t)
	datafile["integrations"] = []any{map[string]any{"key": "odp", "host": em.URLs().ODP, "publicKey": "pk"}}
	return em, datafile
}

// Source: odp.md section 3, pages.md O-2 to O-4.
func TestOwnSegments(t *testing.T) {
	em, datafile := withODP(t)
	require.NoError(t, em.SetSegments("u8", "vip"))
	require.NoError(t, em.SetUnknown("stranger"))
	c, _ := newClient(t, datafile)
	requests := func() int { return len(em.Attempts("/v3/graphql")) }
	for range 2 { // all contexts share the cache
		u := c.NewUser("u8", nil)
		require.NoError(t, u.FetchQualifiedSegments(t.Context()))
		require.True(t, u.IsQualifiedFor("vip"))
		require.Equal(t, "d2on", u.Decide(t.Context(), "main").VariationKey)
	}
	require.Equal(t, 1, requests())
	u := c.NewUser("u8", nil)
	require.NoError(t, u.FetchQualifiedSegments(t.Context(), IgnoreSegmentsCache))
	require.Equal(t, 2, requests())
	require.NoError(t, u.FetchQualifiedSegments(t.Context(), ResetSegmentsCache))
	require.Equal(t, 3, requests())
	require.NoError(t, u.FetchQualifiedSegmentsAsync(t.Context(), nil).Wait(t.Context()))
	require.Equal(t, 3, requests())

	err := c.NewUser("stranger", nil).FetchQualifiedSegments(t.Context())
	require.ErrorIs(t, err, odp.ErrInvalidIdentifier)
	require.EqualError(t, err, "fetch segments: invalid identifier")
	em.Script("/v3/graphql", 503)
	require.ErrorIs(t, u.FetchQualifiedSegments(t.Context(), IgnoreSegmentsCache), odp.ErrHTTP)
	_, isKnown := u.QualifiedSegments()
	require.False(t, isKnown)
	require.EqualValues(t, 2, c.SegmentsStats().Hits)
	require.Empty(t, em.Attempts("/v3/events"), "contexts of one identifier identify nobody")

	none, _ := newClient(t, datafile, WithSegmentsCacheSize(0))
	before := requests()
	for range 2 {
		require.NoError(t, none.NewUser("u8", nil).FetchQualifiedSegments(t.Context()))
	}
	require.Equal(t, before+2, requests(), "and no cache is shared between clients: odp.md OD-6")
}

// A user's id is a VUID only if the caller says so. Source: odp.md OD-P2, OD-17.
func TestFetchByVUID(t *testing.T) {
	em, datafile := withODP(t)
	require.NoError(t, em.SetSegments("vuid_1", "vip"))
	cache := &segmentsCache{lists: map[string][]string{}}
	c, _ := newClient(t, datafile, WithSegmentsCache(cache))
	u := c.NewUser("vuid_1", nil)
	for _, options := range [][]SegmentOptions{{}, {FetchByVUID}, {FetchByVUID}, {FetchByVUID, IgnoreSegmentsCache}} {
		require.NoError(t, u.FetchQualifiedSegments(t.Context(), options...))
		require.True(t, u.IsQualifiedFor("vip"))
	}
	asked := em.Attempts("/v3/graphql")
	require.Len(t, asked, 3)
	for i, key := range []string{"customer(fs_user_id:", "customer(vuid:", "customer(vuid:"} {
		require.Contains(t, string(asked[i].Body), key)
	}
	require.Equal(t, map[string][]string{"fs_user_id-$-vuid_1": {"vip"}, "vuid-$-vuid_1": {"vip"}}, cache.lists)
}

// A segmentsCache is one of a program's own. Source: pages.md O-5.
type segmentsCache struct {
	mu    sync.Mutex
	lists map[string][]string
}

func (c *segmentsCache) Save(key string, segments []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists[key] = segments
}

func (c *segmentsCache) Lookup(key string) ([]string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, ok := c.lists[key]
	return list, ok
}

func (c *segmentsCache) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.lists)
}

func TestOwnSegmentsCache(t *testing.T) {
	em, datafile := withODP(t)
	require.NoError(t, em.SetSegments("u8", "vip"))
	cache := &segmentsCache{lists: map[string][]string{}}
	c, _ := newClient(t, datafile, WithSegmentsCache(cache), WithSegmentsCacheSize(0))
	require.NoError(t, c.NewUser("u8", nil).FetchQualifiedSegments(t.Context()))
	require.Equal(t, map[string][]string{"fs_user_id-$-u8": {"vip"}}, cache.lists)
	cache.Save("fs_user_id-$-u9", []string{"vip"})
	u := c.NewUser("u9", nil)
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	require.True(t, u.IsQualifiedFor("vip"))
	require.Len(t, em.Attempts("/v3/graphql"), 1)
}

// Source: odp.md section 6: the cache goes, and events go where they were made for.
func TestODPFollowsTheDatafile(t *testing.T) {
	em, datafile := withODP(t)
	other, _ := withODP(t)
	require.NoError(t, em.SetSegments("u8", "vip"))
	require.NoError(t, em.SeedDatafile("k", text(t, datafile)))
	c, err := New(WithSDKKey("k"), WithDatafileURLTemplate(em.URLs().Datafile), WithPollingInterval(20*time.Millisecond), WithEventProcessor(&recorder{}))
	require.NoError(t, err)
	defer c.Close(context.Background())
	u := c.NewUser("u8", nil)
	require.ErrorIs(t, u.FetchQualifiedSegments(t.Context()), ErrNotReady)
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a", Identifiers: map[string]string{"email": "x"}}), ErrNotReady)
	c.Start()
	require.NoError(t, c.WaitReady(t.Context()))
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	require.True(t, u.IsQualifiedFor("vip"))
	require.NoError(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "before", Identifiers: map[string]string{"email": "x"}}))

	datafile["integrations"] = []any{map[string]any{"key": "odp", "host": other.URLs().ODP, "publicKey": "pk"}}
	datafile["revision"] = "next"
	_, err = em.SetDatafile("k", text(t, datafile))
	require.NoError(t, err)
	eventually(t, func() bool { return c.OptimizelyConfig().Revision == "next" }, "the new datafile")
	require.NoError(t, u.FetchQualifiedSegments(t.Context()))
	require.False(t, u.IsQualifiedFor("vip"), "the other ODP doesn't know of it")
	require.Len(t, other.Attempts("/v3/graphql"), 1)
	require.NoError(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "after", Identifiers: map[string]string{"email": "x"}}))

	delete(datafile, "integrations")
	datafile["revision"] = "last"
	_, err = em.SetDatafile("k", text(t, datafile))
	require.NoError(t, err)
	eventually(t, func() bool { return c.OptimizelyConfig().Revision == "last" }, "the last datafile")
	require.ErrorIs(t, u.FetchQualifiedSegments(t.Context()), ErrODPNotIntegrated)
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a", Identifiers: map[string]string{"email": "x"}}), ErrODPNotIntegrated)
	require.NoError(t, c.Close(t.Context()))
	require.Len(t, em.Attempts("/v3/events"), 1)
	require.Contains(t, string(em.Attempts("/v3/events")[0].Body), `"before"`)
	require.Contains(t, string(other.Attempts("/v3/events")[0].Body), `"after"`)
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a", Identifiers: map[string]string{"email": "x"}}), ErrClosed)
}

func odpEvent(action string) ODPEvent {
	return ODPEvent{Action: action, Identifiers: map[string]string{"fs-user-id": "u"}, Data: map[string]any{"n": 1}}
}

// Source: odp.md sections 5.1, 5.2.
func TestSendODPEvent(t *testing.T) {
	em, datafile := withODP(t)
	var handled []error
	c, _ := newClient(t, datafile, WithErrorHandler(func(err error) { handled = append(handled, err) }), WithClientInfo("shop", "7"))
	em.Script("/v3/events", 202, 400)
	c.Start()
	for range 12 {
		require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
	}
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a"}), odp.ErrInvalidEvent)
	require.NoError(t, c.Close(t.Context()))
	all := em.Attempts("/v3/events")
	require.Len(t, all, 2)
	var events []struct {
		Identifiers map[string]string
		Data        map[string]any
	}
	require.NoError(t, json.Unmarshal(all[0].Body, &events))
	require.Len(t, events, 10)
	require.Equal(t, map[string]string{"fs_user_id": "u"}, events[0].Identifiers)
	require.Equal(t, "shop", events[0].Data["data_source"])
	require.Equal(t, "7", events[0].Data["data_source_version"])
	require.Len(t, handled, 1)
	var refused *ODPEventError
	require.ErrorAs(t, handled[0], &refused)
	require.Equal(t, 2, refused.Events)
	require.True(t, refused.IsPermanent)

	off, _ := newClient(t, datafile, WithoutODP())
	require.ErrorIs(t, off.SendODPEvent(t.Context(), odpEvent("a")), ErrODPDisabled)
}

// An odpSender is one of a program's own. Source: pages.md O-6.
type odpSender struct{ events []ODPEvent }

func (s *odpSender) SendODPEvent(_ context.Context, e ODPEvent) error {
	s.events = append(s.events, e)
	return errors.New("not today")
}

func TestODPEventSender(t *testing.T) {
	em, datafile := withODP(t)
	s := &odpSender{}
	c, _ := newClient(t, datafile, WithODPEventSender(s))
	require.ErrorContains(t, c.SendODPEvent(t.Context(), odpEvent("a")), "not today")
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a"}), odp.ErrInvalidEvent)
	require.Equal(t, []ODPEvent{odpEvent("a")}, s.events)
	require.Empty(t, em.Attempts("/v3/events"))
}

// The events of a client that ended while ODP was down are sent by the next one.
// Source: pages.md O-10.
func TestDurableODPEvents(t *testing.T) {
	em, datafile := withODP(t)
	dir := t.TempDir()
	id, err := em.AddFault(emulator.Fault{Route: "/v3/events", Status: 503})
	require.NoError(t, err)
	open := func() *Client {
		c, err := New(WithDatafile(text(t, datafile)), WithOutbox(dir, OutboxOptions{}), WithEventEndpoint(em.URLs().Events), WithCloseTimeout(300*time.Millisecond))
		require.NoError(t, err)
		c.Start()
		return c
	}
	c := open()
	for range 25 {
		require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
	}
	require.NoError(t, c.Close(t.Context()))
	require.True(t, em.RemoveFault(id))
	c = open()
	accepted := func() (events, bodies int) {
		for _, a := range em.Attempts("/v3/events") {
			if a.Accepted {
				var list []json.RawMessage
				require.NoError(t, json.Unmarshal(a.Body, &list))
				require.LessOrEqual(t, len(list), 10)
				events += len(list)
				bodies++
			}
		}
		return events, bodies
	}
	eventually(t, func() bool { events, _ := accepted(); return events == 25 }, "all events")
	_, bodies := accepted()
	require.Equal(t, 3, bodies, "in batches of ten")
	require.Equal(t, "pk", em.Attempts("/v3/events")[0].Header.Get("X-Api-Key"))
	// One that is refused for good is kept with the reason.
	em.Script("/v3/events", 400)
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("refused")))
	eventually(t, func() bool { return c.odp.outbox.Account().Refused.Batches == 1 }, "the refusal")
	for batch, err := range c.odp.outbox.Refused() {
		require.NoError(t, err)
		require.Contains(t, string(batch.Parts[0].Body), `"refused"`)
		require.Equal(t, 400, batch.Parts[0].Status)
	}
	require.NoError(t, c.Close(t.Context()))
}

// received are the events that ODP accepted.
func received(t *testing.T, em *emulator.Server) (events []json.RawMessage) {
	t.Helper()
	for _, a := range em.Attempts("/v3/events") {
		if a.Accepted {
			var list []json.RawMessage
			require.NoError(t, json.Unmarshal(a.Body, &list))
			events = append(events, list...)
		}
	}
	return events
}

// ODP events from before the first datafile are checked and on disk, and sent by whoever
// gets to know host and key: the same client, or the next one. Source: pages.md O-10.
func TestODPEventsBeforeReadiness(t *testing.T) {
	em, datafile := withODP(t)
	dir := t.TempDir()
	fresh := func(errs *errorLog) *Client {
		c, err := New(WithSDKKey("k"), WithDatafileURLTemplate(em.URLs().Datafile), WithPollingInterval(20*time.Millisecond),
			WithOutbox(dir, OutboxOptions{}), WithErrorHandler(errs.handle), WithCloseTimeout(30*time.Second))
		require.NoError(t, err)
		return c
	}
	closeNow := func(c *Client) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, c.Close(ended), "what is on disk is not lost")
	}
	errs := &errorLog{}
	c := fresh(errs)
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("before")))
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a"}), odp.ErrInvalidEvent)
	require.ErrorIs(t, c.SendODPEvent(t.Context(), ODPEvent{Action: "a", Identifiers: map[string]string{"email": ""}}), odp.ErrInvalidEvent)
	closeNow(c)
	require.EqualValues(t, 1, c.odp.outbox.Account().Pending.Batches)

	c = fresh(errs)
	c.Start() // there is no datafile yet
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("still before")))
	require.NoError(t, em.SeedDatafile("k", text(t, datafile)))
	eventually(t, func() bool { return len(received(t, em)) == 2 }, "both, though nobody calls the client")
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, "pk", em.Attempts("/v3/events")[0].Header.Get("X-Api-Key"))

	// A datafile without ODP refuses them, and says so.
	c = fresh(errs)
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("nowhere")))
	delete(datafile, "integrations")
	datafile["revision"] = "without"
	_, err := em.SetDatafile("k", text(t, datafile))
	require.NoError(t, err)
	refused := func() (own *ODPEventError) {
		for _, err := range errs.all() {
			if errors.As(err, &own) {
				return own
			}
		}
		return nil
	}
	require.Nil(t, refused())
	c.Start()
	eventually(t, func() bool { return refused() != nil }, "the error handler hears of it")
	require.ErrorIs(t, refused(), ErrODPNotIntegrated)
	require.True(t, refused().IsPermanent)
	require.Contains(t, string(refused().Body), `[{"type":"fullstack","action":"nowhere"`)
	require.NoError(t, c.Close(t.Context()))
	require.EqualValues(t, 1, c.odp.outbox.Account().Refused.Batches)
	require.Len(t, received(t, em), 2)

	// Nobody waits for a datafile that nobody looks for.
	c = fresh(errs)
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("kept")))
	began, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, c.Close(began))
	require.NoError(t, began.Err())
	require.EqualValues(t, 1, c.odp.outbox.Account().Pending.Batches)

	off, err := New(WithSDKKey("k"), WithoutODP(), WithOutbox(t.TempDir(), OutboxOptions{}))
	require.NoError(t, err)
	require.ErrorIs(t, off.SendODPEvent(t.Context(), odpEvent("a")), ErrNotReady)
	require.NoError(t, off.Close(t.Context()))
}

// Closing delivers what is in the outbox of ODP events, however long they would wait for
// each other: more of them than are handed over at once, so that some come late.
func TestCloseDrainsODPEvents(t *testing.T) {
	em, datafile := withODP(t)
	for _, n := range []int{1, 15, 95} {
		before := len(received(t, em))
		c, err := New(WithDatafile(text(t, datafile)), WithOutbox(t.TempDir(), OutboxOptions{Sync: sinks.SyncInterval}), WithEventEndpoint(em.URLs().Events),
			WithODPEventFlushInterval(time.Hour), WithCloseTimeout(20*time.Second))
		require.NoError(t, err)
		c.Start()
		for range n {
			require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
		}
		require.NoError(t, c.Close(t.Context()))
		require.Zero(t, c.odp.outbox.Account().Pending.Batches)
		require.Len(t, received(t, em), before+n)
	}
}

// ODP events don't wait for an event endpoint that takes the whole time of closing.
func TestCloseDeliversODPEventsBesideOthers(t *testing.T) {
	em, datafile := withODP(t)
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true})
	require.NoError(t, err)
	c, err := New(WithDatafile(text(t, datafile)), WithOutbox(t.TempDir(), OutboxOptions{}), WithEventEndpoint(em.URLs().Events),
		WithODPEventFlushInterval(time.Hour), WithCloseTimeout(20*time.Second))
	require.NoError(t, err)
	c.Start()
	c.NewUser("u", nil).Decide(t.Context(), "main")
	require.NoError(t, c.SendODPEvent(t.Context(), odpEvent("viewed")))
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 1) // one answer
	go func() { closed <- c.Close(ctx) }()
	eventually(t, func() bool { return len(received(t, em)) == 1 }, "the ODP event, while the other is under way")
	cancel()
	require.NoError(t, <-closed)
}
