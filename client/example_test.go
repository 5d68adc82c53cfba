package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sortition/client"
	"sortition/decision/datafile"
	"sortition/examples"
	"sortition/internal/emulator"
)

// The examples decide for visitors of the sample shop (examples/datafile.json).
// Where something is fetched or sent, a local stand-in for the cloud serves it.

// shop is the sample shop's datafile.
var shop = client.WithDatafile(examples.Datafile())

// offline sends events nowhere.
var offline = client.WithEventDispatcher(dispatcher(func(client.LogEvent) {}))

type dispatcher func(client.LogEvent)

func (d dispatcher) DispatchEvent(_ context.Context, e client.LogEvent) error {
	d(e)
	return nil
}

// startCloud serves the shop's datafile under its SDK key, and takes events.
func startCloud() (cloud *emulator.Server, stop func()) {
	em, err := emulator.New(emulator.Options{Datafile: examples.Datafile(), Token: "secret-token"})
	must(err)
	cloud, err = emulator.Listen(em, "127.0.0.1:0")
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cloud.Run(ctx) }()
	return cloud, func() { cancel(); must(<-done) }
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// By SDK key: the datafile is downloaded, then polled for in the background.
// (pages.md I-2, I-14)
func ExampleOpen() {
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()

	c, err := client.Open(ctx, client.WithSDKKey("SampleShopSdkKey"),
		client.WithPollingInterval(time.Minute),
		// A program of yours leaves these two out; they are for a cloud of one's own.
		client.WithDatafileURLTemplate(cloud.URLs().Datafile), client.WithEventEndpoint(cloud.URLs().Events))
	if err != nil {
		fmt.Println("no client:", err)
		return
	}

	user := c.NewUser("u-17", map[string]any{"plan": "pro", "logged_in": true})
	d := user.Decide(ctx, "checkout_flow")
	fmt.Println("revision", c.OptimizelyConfig().Revision)
	fmt.Println(d.FlagKey, d.VariationKey, d.Enabled)

	// Close delivers what is still waiting.
	fmt.Println("closed:", c.Close(ctx))
	fmt.Println("events at the cloud:", cloud.Counts().Visitors)
	// Output:
	// revision 42
	// checkout_flow one_page true
	// closed: <nil>
	// events at the cloud: 1
}

// By datafile: it is never fetched; a newer one means a new client. (pages.md I-3)
func ExampleNew() {
	text, err := os.ReadFile("../examples/datafile.json")
	must(err)
	c, err := client.New(client.WithDatafile(text), offline)
	if err != nil {
		fmt.Println("no client:", err)
		return
	}
	defer c.Close(context.Background())
	fmt.Println(c.IsReady(), c.OptimizelyConfig().Revision)
	// Output: true 42
}

// At least one of datafile, SDK key and source is required. (pages.md I-1)
func ExampleNew_nothing() {
	_, err := client.New()
	fmt.Println(errors.Is(err, client.ErrNoSource))
	fmt.Println(err)
	// Output:
	// true
	// new client: a datafile, an SDK key or a datafile source is needed
}

// Both: the given datafile is used at once, and polling goes on beside it.
// (pages.md I-4)
func ExampleWithSDKKey() {
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()
	older := []byte(strings.Replace(string(examples.Datafile()), `"revision": "42"`, `"revision": "41"`, 1))

	listeners := client.NewNotifications()
	updated := make(chan client.ConfigUpdateNotification, 2)
	listeners.OnConfigUpdate(func(u client.ConfigUpdateNotification) { updated <- u })

	c, err := client.New(client.WithDatafile(older), client.WithSDKKey("SampleShopSdkKey"),
		client.WithDatafileURLTemplate(cloud.URLs().Datafile), client.WithNotifications(listeners), offline)
	must(err)
	defer c.Close(ctx)
	fmt.Printf("given: %q\n", (<-updated).NewRevision)

	c.Start()
	u := <-updated
	fmt.Printf("fetched: %q after %q\n", u.NewRevision, u.OldRevision)
	// Output:
	// given: "41"
	// fetched: "42" after "41"
}

// Own network calls for events. (pages.md I-5)
func ExampleWithEventDispatcher() {
	ctx := context.Background()
	send := dispatcher(func(e client.LogEvent) {
		fmt.Println(e.Verb, e.URL, e.Header.Get("Content-Type"))
	})
	c, err := client.Open(ctx, shop, client.WithEventDispatcher(send))
	must(err)
	c.NewUser("u-17", nil).Decide(ctx, "dark_mode")
	must(c.Close(ctx))
	// Output: POST https://logx.optimizely.com/v1/events application/json
}

// A logger and an error handler. (pages.md I-6)
func ExampleWithErrorHandler() {
	cloud, stop := startCloud()
	defer stop()
	cloud.Script("/v1/events", 403) // refused for good
	ctx := context.Background()

	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "error" {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelError, ReplaceAttr: withoutTime}))
	c, err := client.Open(ctx, shop, client.WithEventEndpoint(cloud.URLs().Events),
		client.WithLogger(logger),
		client.WithErrorHandler(func(err error) {
			var undelivered *client.EventError
			if errors.As(err, &undelivered) {
				fmt.Println("status", undelivered.Status, "for good:", undelivered.IsPermanent, "events:", undelivered.Visitors)
				// undelivered.Event.Params is the body, to be kept or mended.
			}
		}))
	must(err)
	must(c.NewUser("u-17", nil).TrackEvent(ctx, "signup", nil))
	must(c.Close(ctx))
	// Output:
	// level=ERROR msg="client: something failed that no caller is told of"
	// status 403 for good: true events: 1
}

// Skipping the schema check takes datafiles that the schema refuses. (pages.md I-8)
func ExampleWithoutSchemaValidation() {
	odd := []byte(strings.Replace(string(examples.Datafile()), `"projectId": "`, `"projectId": 1, "was": "`, 1))
	_, err := client.New(client.WithDatafile(odd))
	fmt.Println("checked:", err)
	c, err := client.New(client.WithDatafile(odd), client.WithoutSchemaValidation(), offline)
	fmt.Println("not checked:", err)
	defer c.Close(context.Background())
	// Output:
	// checked: new client: install datafile: invalid datafile: $.projectId: must be a string, not a number
	// not checked: <nil>
}

// A source of one's own, here a watched file; what it brings reaches the same
// listeners. (pages.md I-9)
func ExampleWithSource() {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "datafile.json")
	must(os.WriteFile(path, examples.Datafile(), 0o600))

	file, err := datafile.NewFile(datafile.FileConfig{Path: path})
	must(err)
	ctx := context.Background()
	c, err := client.Open(ctx, client.WithSource(file), offline)
	must(err)
	defer c.Close(ctx)

	updated := make(chan string, 1)
	c.Notifications().OnConfigUpdate(func(u client.ConfigUpdateNotification) { updated <- u.NewRevision })
	newer := strings.Replace(string(examples.Datafile()), `"revision": "42"`, `"revision": "43"`, 1)
	must(os.WriteFile(path+".new", []byte(newer), 0o600))
	must(os.Rename(path+".new", path))
	for revision := range updated {
		if revision != "42" { // that of the start may be told late
			fmt.Println("revision", revision)
			break
		}
	}
	// Output: revision 43
}

// The authenticated datafile of a secure environment. (pages.md I-10)
func ExampleWithAccessToken() {
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()
	c, err := client.Open(ctx, client.WithSDKKey("SampleShopSdkKey"), client.WithAccessToken("secret-token"),
		client.WithDatafileURLTemplate(cloud.URLs().AuthDatafile), offline)
	must(err)
	defer c.Close(ctx)
	fmt.Println("ready:", c.IsReady())
	// Output: ready: true
}

// Default options apply to every decide call; a call adds its own. (pages.md I-11)
func ExampleWithDefaultDecideOptions() {
	c, err := client.New(shop, offline, client.WithDefaultDecideOptions(client.EnabledFlagsOnly, client.ExcludeVariables))
	must(err)
	ctx := context.Background()
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	fmt.Println(user.DecideAll(ctx, client.DisableDecisionEvent).Keys())
	// Output:
	// [search_ranking loyalty_banner product_recommendations dark_mode price_display]
}

// Batches of events: their size, how long they wait, how many are held, and how
// long closing waits for them. (pages.md I-12)
func ExampleWithEventBatchSize() {
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()
	c, err := client.Open(ctx, shop, client.WithEventEndpoint(cloud.URLs().Events),
		client.WithEventBatchSize(4),
		client.WithEventFlushInterval(5*time.Second),
		client.WithEventQueueSize(10_000),
		client.WithCloseTimeout(3*time.Second))
	must(err)
	user := c.NewUser("u-17", nil)
	for range 6 {
		must(user.TrackEvent(ctx, "add_to_cart", nil))
	}
	must(c.Close(ctx))
	for _, body := range cloud.Received() {
		fmt.Println("a body of", len(body.Visitors))
	}
	// Output:
	// a body of 4
	// a body of 2
}

// A processor of one's own takes finished events, for instance to a topic.
// (pages.md I-12)
func ExampleWithEventProcessor() {
	c, err := client.New(shop, client.WithEventProcessor(&topic{}))
	must(err)
	ctx := context.Background()
	must(c.NewUser("u-17", nil).TrackEvent(ctx, "signup", nil))
	must(c.Close(ctx))
	// Output:
	// 1 event for https://logx.optimizely.com/v1/events
	// topic closed
}

type topic struct{}

func (*topic) Process(_ context.Context, events []client.UserEvent) error {
	fmt.Println(len(events), "event for", events[0].Endpoint)
	return nil
}

func (*topic) Close(context.Context) error {
	fmt.Println("topic closed")
	return nil
}

// An outbox keeps events on disk until they are delivered: they are there before the
// call returns, and survive the end of the process. (pages.md O-10)
func ExampleWithOutbox() {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()
	options := []client.Option{
		shop, client.WithEventEndpoint(cloud.URLs().Events),
		client.WithOutbox(filepath.Join(dir, "outbox"), client.OutboxOptions{}),
	}

	// The cloud is away while this client lives.
	away, err := cloud.AddFault(emulator.Fault{Route: "/v1/events", Status: 503})
	must(err)
	c, err := client.Open(ctx, append(options, client.WithCloseTimeout(50*time.Millisecond))...)
	must(err)
	must(c.NewUser("u-17", nil).TrackEvent(ctx, "signup", nil))
	fmt.Println("closed:", c.Close(ctx), "- arrived:", cloud.Counts().Visitors)

	// The next one finds what was left.
	cloud.RemoveFault(away)
	c, err = client.Open(ctx, options...)
	must(err)
	fmt.Println("closed:", c.Close(ctx), "- arrived:", cloud.Counts().Visitors)
	// Output:
	// closed: <nil> - arrived: 0
	// closed: <nil> - arrived: 1
}

// The settings of contextual bandits. Of the settings object of the SDKs, the
// others are about ODP. (pages.md I-13)
func ExampleWithCMABPredictionEndpoint() {
	c, err := client.New(shop, offline,
		client.WithCMABPredictionEndpoint("https://predictions.internal/predict/{}"),
		client.WithCMABCacheSize(50_000), client.WithCMABCacheTTL(10*time.Minute),
		client.WithoutODP())
	must(err)
	defer c.Close(context.Background())
	fmt.Println(c.IsReady())
	// Output: true
}

// Close releases everything; calling it twice is fine. (pages.md I-14)
func ExampleClient_Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 3 { // programs may make many clients
		c, err := client.Open(ctx, shop, offline)
		must(err)
		defer c.Close(ctx)
		c.NewUser("u-17", nil).Decide(ctx, "dark_mode")
		fmt.Println(c.Close(ctx))
	}
	// Output:
	// <nil>
	// <nil>
	// <nil>
}

// A program that runs its parts side by side gives the client a place too.
// (pages.md I-14)
func ExampleClient_Run() {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := client.New(shop, offline)
	must(err)
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()

	fmt.Println(c.NewUser("u-17", nil).Decide(ctx, "dark_mode").Enabled)
	cancel() // it is time to stop
	fmt.Println(<-ended)
	// Output:
	// true
	// <nil>
}

// What was refused for good stays in the outbox with the reason, within a bound. Who has
// seen to it clears it.
func ExampleClient_Outbox() {
	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	cloud, stop := startCloud()
	defer stop()
	ctx := context.Background()
	options := []client.Option{shop, client.WithEventEndpoint(cloud.URLs().Events), client.WithOutbox(dir, client.OutboxOptions{})}

	cloud.Script("/v1/events", 400)
	c, err := client.Open(ctx, options...)
	must(err)
	must(c.NewUser("u-17", nil).TrackEvent(ctx, "signup", nil))
	must(c.Close(ctx))

	c, err = client.Open(ctx, options...)
	must(err)
	outbox, _ := c.Outbox()
	for batch, err := range outbox.Refused() {
		must(err)
		fmt.Println("refused:", batch.Parts[0].Reason)
	}
	must(outbox.ClearRefused())
	account := outbox.Account()
	fmt.Println("refused ever:", account.Refused.Visitors, "kept:", account.Kept.Visitors)
	must(c.Close(ctx))
	// Output:
	// refused: status 400 Bad Request
	// refused ever: 1 kept: 0
}
