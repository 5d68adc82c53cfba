package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/decision/datafile"
	"sortition/internal/emulator"
	"sortition/sinks"
)

// sizes are the numbers of visitors in the bodies that were received.
func sizes(em *emulator.Server) []int {
	out := []int{}
	for _, a := range em.Received() {
		out = append(out, len(a.Visitors))
	}
	return out
}

func requireValid(t *testing.T, em *emulator.Server) {
	t.Helper()
	for _, a := range em.Received() {
		require.Empty(t, a.Problems)
	}
}

// online makes a started client whose events go to an emulator.
func online(t *testing.T, options ...Option) (*Client, *emulator.Server) {
	t.Helper()
	em := emulator.Start(t, emulator.Options{Datafile: text(t, worked(t)), SDKKey: "KEY"})
	c, err := Open(t.Context(), append([]Option{WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events)}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c, em
}

// Source: event-batching.md sections 3 and 10 (rows 1 and 10), EB-4, EB-16.
func TestBatches(t *testing.T) {
	c, em := online(t, WithEventBatchSize(2), WithClientInfo("shop", "7"))
	var mu sync.Mutex
	var told []LogEvent
	c.Notifications().OnLogEvent(func(e LogEvent) {
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, len(told), em.Requests(emulator.RouteEvents), "told before it is sent")
		told = append(told, e)
	})
	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	for range 5 {
		u.Decide(t.Context(), "main")
	}
	eventually(t, func() bool { return len(em.Received()) == 2 }, "two full batches")
	c.Flush()
	require.NoError(t, em.Await(t.Context(), func() bool { return len(em.Received()) == 3 }))
	require.NoError(t, u.TrackEvent(t.Context(), "bought", nil))
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, []int{2, 2, 1, 1}, sizes(em))
	requireValid(t, em)
	require.Len(t, told, 4)
	for i, a := range em.Received() {
		require.Equal(t, string(a.Body), string(told[i].Params), "byte for byte")
		require.Equal(t, "application/json", a.Header.Get("Content-Type"))
		var head struct {
			Name    string `json:"client_name"`
			Version string `json:"client_version"`
		}
		require.NoError(t, json.Unmarshal(a.Body, &head))
		require.Equal(t, "shop/7", head.Name+"/"+head.Version)
	}
	require.Equal(t, LogEvent{URL: em.URLs().Events, Verb: "POST", Header: http.Header{"Content-Type": {"application/json"}}, Params: told[0].Params}, told[0])
	require.JSONEq(t, `{"url":"`+em.URLs().Events+`","http_verb":"POST","headers":{"Content-Type":"application/json"},"params":`+string(told[0].Params)+`}`, string(text(t, told[0])))
}

// A batch of one account, one revision, one region: events of a new datafile don't
// join those of the old one. Source: event-batching.md EB-10, EB-11, EB-P1.
func TestBatchesSplitOnNewDatafile(t *testing.T) {
	em := emulator.Start(t, emulator.Options{SDKKey: "KEY", Datafile: revision(t, "7")})
	updates := make(chan ConfigUpdateNotification, 4)
	n := NewNotifications()
	n.OnConfigUpdate(func(u ConfigUpdateNotification) { updates <- u })
	c, err := Open(t.Context(), WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithPollingInterval(2*time.Millisecond),
		WithEventEndpoint(em.URLs().Events), WithNotifications(n))
	require.NoError(t, err)
	defer c.Close(context.Background())
	<-updates
	u := c.NewUser("u", nil)
	u.Decide(t.Context(), "main")
	_, err = em.SetDatafile("KEY", revision(t, "8"))
	require.NoError(t, err)
	<-updates
	u.Decide(t.Context(), "main")
	u.Decide(t.Context(), "main")
	_, err = em.SetDatafile("KEY", revision(t, "7"))
	require.NoError(t, err)
	<-updates
	u.Decide(t.Context(), "main")
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, []int{1, 2, 1}, sizes(em))
}

// The region decides where events go, unless an endpoint is given.
// Source: events.md EV-1, EV-P1.
func TestEndpoints(t *testing.T) {
	datafile := worked(t)
	for region, want := range map[string]string{
		"": "https://logx.optimizely.com/v1/events", "eu": "https://eu.logx.optimizely.com/v1/events", "AP": "https://logx.optimizely.com/v1/events",
	} {
		datafile["region"] = region
		c, events := newClient(t, datafile)
		c.NewUser("u", nil).Decide(t.Context(), "main")
		require.Equal(t, want, events.events[0].Endpoint)
	}
	c, events := newClient(t, datafile, WithEventEndpoint("http://h/e"))
	c.NewUser("u", nil).Decide(t.Context(), "main")
	require.Equal(t, "http://h/e", events.events[0].Endpoint)
}

// dispatcherFunc is an event dispatcher.
type dispatcherFunc func(context.Context, LogEvent) error

func (f dispatcherFunc) DispatchEvent(ctx context.Context, e LogEvent) error { return f(ctx, e) }

// Source: pages.md I-5, I-12, event-batching.md EB-8, EB-19.
func TestOwnDispatcher(t *testing.T) {
	datafile := text(t, worked(t))
	synctest.Test(t, func(t *testing.T) {
		errs := &errorLog{}
		var mu sync.Mutex // guards what follows
		var log []LogEvent
		failure := error(nil)
		dispatcher := dispatcherFunc(func(_ context.Context, e LogEvent) error {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, e)
			return failure
		})
		sent := func() []LogEvent {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return log
		}
		c, err := Open(context.Background(), WithDatafile(datafile), WithEventDispatcher(dispatcher),
			WithEventFlushInterval(7*time.Second), WithErrorHandler(errs.handle))
		require.NoError(t, err)
		u := c.NewUser("u", nil)
		u.Decide(t.Context(), "main")
		time.Sleep(6 * time.Second)
		u.Decide(t.Context(), "main")
		require.Empty(t, sent())
		time.Sleep(time.Second)
		require.Len(t, sent(), 1, "7 s after the first event")
		require.Equal(t, "https://logx.optimizely.com/v1/events", sent()[0].URL)

		mu.Lock()
		failure = errors.New("no network")
		mu.Unlock()
		u.Decide(t.Context(), "main")
		c.Flush()
		require.Len(t, sent(), 2)
		var back *EventError
		require.Len(t, errs.all(), 1)
		require.ErrorAs(t, errs.all()[0], &back)
		require.ErrorIs(t, back, failure)
		require.Equal(t, string(sent()[1].Params), string(back.Event.Params))
		require.Equal(t, 1, back.Visitors)
		require.False(t, back.IsPermanent)
		require.NoError(t, c.Close(t.Context()))
	})
}

// Source: pages.md I-12: a processor of one's own gets the events of a call at once.
func TestOwnProcessor(t *testing.T) {
	errs := &errorLog{}
	c, events := newClient(t, worked(t), WithErrorHandler(errs.handle))
	u := c.NewUser("u", nil)
	u.DecideAll(t.Context())
	require.Len(t, events.events, 4)
	require.Equal(t, 1, events.calls)
	single := SingleEvent(events.events[0])
	require.True(t, json.Valid(single.Params))
	require.Contains(t, string(single.Params), events.events[0].ID)

	events.err = errors.New("broken")
	require.ErrorIs(t, u.TrackEvent(t.Context(), "bought", nil), events.err)
	require.Empty(t, errs.all(), "the caller has it")
	told := 0
	c.Notifications().OnTrack(func(TrackNotification) { told++ })
	c.Notifications().OnDecision(func(DecisionNotification) { told++ })
	require.Error(t, u.TrackEvent(t.Context(), "bought", nil))
	require.NoError(t, u.Decide(t.Context(), "main").Err, "a decision doesn't fail with its event")
	require.Len(t, errs.all(), 1)
	require.ErrorIs(t, errs.all()[0], events.err)
	require.Equal(t, 1, told)
	require.NoError(t, c.Close(t.Context()))
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, 1, events.closed)
	events.err = nil
	require.ErrorIs(t, u.TrackEvent(t.Context(), "bought", nil), ErrClosed)
	require.NoError(t, u.Decide(t.Context(), "main").Err)
	require.ErrorIs(t, errs.all()[1], ErrClosed)
}

// Source: event-batching.md EB-2, EB-P4, EB-P5: nothing is dropped silently.
func TestQueueFull(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Hang: true})
	require.NoError(t, err)
	errs, book := &errorLog{}, &logBook{}
	options := []Option{
		WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events), WithEventBatchSize(2), WithEventQueueSize(4),
		WithErrorHandler(errs.handle), WithLogger(book.logger()),
	}
	c, err := Open(t.Context(), options...)
	require.NoError(t, err)
	u := c.NewUser("secret-user", nil)
	taken := 0
	for range 20 {
		if err = u.TrackEvent(t.Context(), "bought", nil); err != nil {
			break
		}
		taken++
	}
	require.ErrorIs(t, err, ErrFull)
	require.Equal(t, 4, taken)
	for range 3 {
		require.NoError(t, u.Decide(t.Context(), "main").Err)
	}
	require.Len(t, errs.all(), 3)
	require.ErrorIs(t, errs.all()[0], ErrFull)
	ended, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	var remains *CloseError
	require.ErrorAs(t, c.Close(ended), &remains)
	require.Equal(t, 4, remains.Visitors)
	require.Len(t, remains.Undelivered, 2)
	require.ErrorIs(t, remains, context.DeadlineExceeded)
	require.NotContains(t, book.String(), "secret-user")
	require.NotContains(t, remains.Error(), "secret-user")
	require.ErrorAs(t, c.Close(t.Context()), &remains, "the same for everybody who closes")

	// By choice the caller waits.
	c, err = Open(t.Context(), append(options, BlockWhenFull())...)
	require.NoError(t, err)
	u = c.NewUser("u", nil)
	for range 4 {
		require.NoError(t, u.TrackEvent(t.Context(), "bought", nil))
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, u.TrackEvent(short, "bought", nil), context.DeadlineExceeded)
	waited := make(chan error, 1)
	go func() { waited <- u.TrackEvent(context.Background(), "bought", nil) }()
	ended, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	require.Error(t, c.Close(ended))
	require.ErrorIs(t, <-waited, ErrClosed)
}

// Source: event-batching.md section 10, rows 4 to 7.
func TestDelivery(t *testing.T) {
	errs := &errorLog{}
	c, em := online(t, WithEventBatchSize(1), WithErrorHandler(errs.handle))
	u := c.NewUser("secret-user", nil)
	track := func(statuses ...int) {
		em.Script("/v1/events", statuses...)
		require.NoError(t, u.TrackEvent(t.Context(), "bought", nil))
	}
	track(500, 503)
	require.NoError(t, em.Await(t.Context(), func() bool { return len(em.Received()) == 1 }))
	attempts := em.Attempts("/v1/events")
	require.Len(t, attempts, 3)
	require.Equal(t, attempts[0].Body, attempts[2].Body)
	require.Empty(t, errs.all())

	track(400)
	eventually(t, func() bool { return len(errs.all()) == 1 }, "a refusal is handed back")
	var back *EventError
	require.ErrorAs(t, errs.all()[0], &back)
	require.True(t, back.IsPermanent)
	require.Equal(t, 400, back.Status)
	require.Equal(t, 1, back.Attempts)
	require.Equal(t, string(em.Attempts("/v1/events")[3].Body), string(back.Event.Params))
	require.NotContains(t, back.Error(), "secret-user")

	track(500, 502, 503, 504)
	eventually(t, func() bool { return len(errs.all()) == 2 }, "and so is what can't be delivered")
	require.ErrorAs(t, errs.all()[1], &back)
	require.False(t, back.IsPermanent)
	require.Equal(t, 4, back.Attempts)
	require.Equal(t, 504, back.Status)
	track()
	require.NoError(t, em.Await(t.Context(), func() bool { return len(em.Received()) == 2 }), "later batches go on")
	require.NoError(t, c.Close(t.Context()))
}

// A client that was never started delivers what it took when it is closed.
func TestCloseWithoutStart(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	c, err := New(WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events))
	require.NoError(t, err)
	c.NewUser("u", nil).DecideAll(t.Context())
	require.NoError(t, c.Close(t.Context()))
	require.Equal(t, []int{4}, sizes(em))

	c, err = New(WithDatafile(text(t, worked(t))))
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
}

func TestRun(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	c, err := New(WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	c.NewUser("u", nil).Decide(t.Context(), "main")
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, []int{1}, sizes(em))
	require.NoError(t, c.Run(t.Context()), "closed already")
}

// Many clients, one after the other and at once, leave nothing behind; goleak looks
// after the tests. Source: pages.md I-14.
func TestManyClients(t *testing.T) {
	em := emulator.Start(t, emulator.Options{SDKKey: "KEY", Datafile: text(t, worked(t))})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				c, err := Open(t.Context(), WithSDKKey("KEY"), WithDatafileURLTemplate(em.URLs().Datafile), WithEventEndpoint(em.URLs().Events))
				if err != nil {
					t.Error(err)
					return
				}
				c.NewUser("u", nil).DecideAll(t.Context())
				var closers sync.WaitGroup
				for range 3 {
					closers.Go(func() {
						if err := c.Close(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				closers.Wait()
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 160, em.Counts().Visitors)
}

// With an outbox an event is on disk when the call returns, and arrives after all
// troubles. Source: event-batching.md EB-P4, section 9.
func TestOutbox(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	em := emulator.Start(t, emulator.Options{})
	_, err := em.AddFault(emulator.Fault{Route: "/v1/events", Status: 503})
	require.NoError(t, err)
	errs := &errorLog{}
	options := []Option{
		WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events), WithOutbox(dir, OutboxOptions{}),
		WithCloseTimeout(50 * time.Millisecond), WithEventBatchSize(3), WithErrorHandler(errs.handle),
	}
	c, err := Open(t.Context(), options...)
	require.NoError(t, err)
	_, err = New(options...)
	require.ErrorIs(t, err, sinks.ErrLocked)
	u := c.NewUser("u", nil)
	u.DecideAll(t.Context()) // four impressions: two bodies
	require.NoError(t, u.TrackEvent(t.Context(), "bought", nil))
	c.Flush()
	require.NoError(t, c.Close(t.Context()), "what is on disk is not lost")
	account, ok := c.OutboxAccount()
	require.True(t, ok)
	require.Equal(t, sinks.Tally{Batches: 3, Visitors: 5}, account.Pending)
	require.Equal(t, account.Pending, account.Appended)
	require.Empty(t, em.Received())
	require.ErrorIs(t, u.TrackEvent(t.Context(), "bought", nil), ErrClosed)

	em.ClearFaults()
	em.Script("/v1/events", 400)
	told := make(chan LogEvent, 10)
	n := NewNotifications()
	n.OnLogEvent(func(e LogEvent) { told <- e })
	c, err = Open(t.Context(), append(options, WithCloseTimeout(10*time.Second), WithNotifications(n))...)
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()), "it waits until all is delivered")
	require.Len(t, told, 3)
	received := 0
	for _, size := range sizes(em) {
		received += size
	}
	var refused *EventError
	require.Len(t, errs.all(), 1)
	require.ErrorAs(t, errs.all()[0], &refused)
	require.True(t, refused.IsPermanent)
	require.Equal(t, 5, received+refused.Visitors)
	account, _ = c.OutboxAccount()
	require.EqualValues(t, received, account.Delivered.Visitors)
	require.EqualValues(t, refused.Visitors, account.Refused.Visitors)
	require.Zero(t, account.Pending)
	kept, err := os.ReadFile(filepath.Join(dir, sinks.RefusedFile))
	require.NoError(t, err)
	require.Contains(t, string(kept), "400")
	requireValid(t, em)
}

// Buffered, whole batches go to the disk.
func TestBufferedOutbox(t *testing.T) {
	em := emulator.Start(t, emulator.Options{})
	c, err := Open(t.Context(), WithDatafile(text(t, worked(t))), WithEventEndpoint(em.URLs().Events),
		WithOutbox(t.TempDir(), OutboxOptions{IsBuffered: true, Sync: sinks.SyncInterval}), WithEventBatchSize(3))
	require.NoError(t, err)
	u := c.NewUser("u", nil)
	for range 7 {
		u.Decide(t.Context(), "main")
	}
	require.NoError(t, em.Await(t.Context(), func() bool { return em.Counts().Visitors == 6 }))
	c.Flush()
	require.NoError(t, em.Await(t.Context(), func() bool { return em.Counts().Visitors == 7 }))
	require.NoError(t, c.Close(t.Context()))
}

// A dispatcher of one's own behind an outbox is asked again until it succeeds.
func TestOutboxWithDispatcher(t *testing.T) {
	failures := 2
	var sent []string
	dispatcher := dispatcherFunc(func(_ context.Context, e LogEvent) error {
		sent = append(sent, string(e.Params))
		if failures > 0 {
			failures--
			return errors.New("later")
		}
		if len(sent) == 4 {
			return &sinks.StatusError{Status: 401}
		}
		return nil
	})
	errs := &errorLog{}
	c, err := Open(t.Context(), WithDatafile(text(t, worked(t))), WithEventDispatcher(dispatcher), WithOutbox(t.TempDir(), OutboxOptions{}), WithErrorHandler(errs.handle))
	require.NoError(t, err)
	u := c.NewUser("u", nil)
	require.NoError(t, u.TrackEvent(t.Context(), "bought", map[string]any{"n": 1}))
	require.NoError(t, u.TrackEvent(t.Context(), "bought", map[string]any{"n": 2}))
	require.NoError(t, c.Close(t.Context()))
	require.Len(t, sent, 4)
	require.Equal(t, sent[0], sent[1])
	require.Equal(t, sent[0], sent[2])
	require.Contains(t, sent[3], `"n":2`)
	var refused *EventError
	require.Len(t, errs.all(), 1)
	require.ErrorAs(t, errs.all()[0], &refused)
	require.Equal(t, 401, refused.Status)
}

// A source that fails is reported; the client goes on.
func TestSourceThatFails(t *testing.T) {
	static, err := datafile.NewStatic(text(t, worked(t)), datafile.Options{})
	require.NoError(t, err)
	broken := errors.New("broken")
	errs := &errorLog{}
	c, err := Open(t.Context(), WithSource(failingSource{static, broken}), WithErrorHandler(errs.handle))
	require.NoError(t, err)
	eventually(t, func() bool { return len(errs.all()) == 1 }, "error handler")
	require.ErrorIs(t, errs.all()[0], broken)
	require.Equal(t, "eoff", c.NewUser("u8", nil).Decide(t.Context(), "main").VariationKey)
	require.NoError(t, c.Close(t.Context()))
}

type failingSource struct {
	*datafile.Static
	err error
}

func (s failingSource) Run(context.Context) error { return s.err }
