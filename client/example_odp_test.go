package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"sortition/client"
	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/odp"
)

// startODP is startCloud with ODP: the shop's datafile names it as its integration.
func startODP() (cloud *emulator.Server, withODP client.Option, stop func()) {
	cloud, stop = startCloud()
	datafile := strings.Replace(string(examples.Datafile()), "https://odp.shop.example", cloud.URLs().ODP, 1)
	must(cloud.SetSegmentRule(emulator.SegmentRule{})) // nobody is in a segment
	must(cloud.SetSegments("u-17", "vip"))
	return cloud, client.WithDatafile([]byte(datafile)), stop
}

// fetch fetches a user's segments and says what came of it.
func fetch(c *client.Client, id string, options ...client.SegmentOptions) {
	user := c.NewUser(id, nil)
	err := user.FetchQualifiedSegments(context.Background(), options...)
	segments, _ := user.QualifiedSegments()
	fmt.Println(id, segments, err)
}

// segmentsCache is a cache of one's own: a map that is never too large.
type segmentsCache struct {
	mu    sync.Mutex
	lists map[string][]string
}

func (c *segmentsCache) Save(key string, segments []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists[key] = segments
}

func (c *segmentsCache) Lookup(key string) (segments []string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	segments, ok = c.lists[key]
	return segments, ok
}

func (c *segmentsCache) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.lists)
}

// All settings at once, with a cache of one's own, whose size and lifetime are its own
// affair. (pages.md I-13, O-5, O-7)
func ExampleWithSegmentsCache() {
	cloud, shop, stop := startODP()
	defer stop()
	cache := &segmentsCache{lists: map[string][]string{}}
	c, err := client.New(shop, offline,
		client.WithSegmentsCache(cache),
		client.WithSegmentRequestTimeout(10*time.Second),
		client.WithODPEventRequestTimeout(10*time.Second),
		client.WithODPEventFlushInterval(time.Second))
	must(err)
	defer c.Close(context.Background())

	fetch(c, "u-17")
	fetch(c, "u-17")
	cache.Save("fs_user_id-$-u-18", []string{"lapsed_buyer"}) // as if it had been fetched
	fetch(c, "u-18")
	fmt.Println("requests:", cloud.Requests(emulator.RouteSegments))
	// Output:
	// u-17 [vip] <nil>
	// u-17 [vip] <nil>
	// u-18 [lapsed_buyer] <nil>
	// requests: 1
}

// The cache is shared by all user contexts of a client. Here it has room for one user,
// for a minute. (pages.md O-2, O-3, O-4)
func ExampleWithSegmentsCacheSize() {
	cloud, shop, stop := startODP()
	defer stop()
	c, err := client.New(shop, offline, client.WithSegmentsCacheSize(1), client.WithSegmentsCacheTimeout(time.Minute))
	must(err)
	defer c.Close(context.Background())
	requests := func() int { return cloud.Requests(emulator.RouteSegments) }

	fetch(c, "u-17")
	fetch(c, "u-17")
	fmt.Println("requests:", requests())
	fetch(c, "u-18") // pushes u-17 out
	fetch(c, "u-17")
	fmt.Println("requests:", requests())
	fetch(c, "u-17", client.IgnoreSegmentsCache)
	fmt.Println("requests:", requests())
	// Output:
	// u-17 [vip] <nil>
	// u-17 [vip] <nil>
	// requests: 1
	// u-18 [] <nil>
	// u-17 [vip] <nil>
	// requests: 3
	// u-17 [vip] <nil>
	// requests: 4
}

// A lifetime of 0 is forever, a size of 0 is no cache. (pages.md O-2, O-3)
func ExampleWithSegmentsCacheTimeout() {
	for _, options := range [][]client.Option{
		{client.WithSegmentsCacheTimeout(0)},
		{client.WithSegmentsCacheSize(0)},
	} {
		cloud, shop, stop := startODP()
		c, err := client.New(append(options, shop, offline)...)
		must(err)
		for range 3 {
			must(c.NewUser("u-17", nil).FetchQualifiedSegments(context.Background()))
		}
		fmt.Println("requests:", cloud.Requests(emulator.RouteSegments))
		must(c.Close(context.Background()))
		stop()
	}
	// Output:
	// requests: 1
	// requests: 3
}

// gateway asks for segments by way of a gateway of one's own, which it counts.
type gateway struct {
	odp.Fetcher
	asked int
}

func (g *gateway) FetchSegments(ctx context.Context, q odp.Query) ([]string, error) {
	g.asked++
	return g.Fetcher.FetchSegments(ctx, q)
}

// A segment API manager of one's own: the client's cache stays in front of it. This one
// wraps the client's, with a timeout of its own. (pages.md O-6, O-7)
func ExampleWithSegmentAPI() {
	_, shop, stop := startODP()
	defer stop()
	graphQL := odp.NewGraphQL(2*time.Second, nil)
	defer graphQL.Close()
	api := &gateway{Fetcher: graphQL}
	c, err := client.New(shop, offline, client.WithSegmentAPI(api))
	must(err)
	defer c.Close(context.Background())
	fetch(c, "u-17")
	fetch(c, "u-17")
	fmt.Println("asked:", api.asked)
	// Output:
	// u-17 [vip] <nil>
	// u-17 [vip] <nil>
	// asked: 1
}

// manager is a segment manager of one's own, with a cache of its own.
type manager struct{ segments *odp.Segments }

func (m *manager) FetchSegments(ctx context.Context, q client.SegmentQuery) ([]string, error) {
	m.segments.Update(ctx, odp.Integration{Host: q.Host, PublicKey: q.PublicKey, Segments: q.Segments})
	r := m.segments.Fetch(ctx, odp.User{Key: odp.VUID, Value: q.UserID}, 0)
	return r.Segments, r.Err
}

// A segment manager of one's own, with a cache of its own: this one asks for users by
// their vuid, and keeps 500 of them for five minutes. (pages.md O-6, O-9)
func ExampleWithSegmentFetcher() {
	cloud, shop, stop := startODP()
	defer stop()
	must(cloud.SetSegments("vuid_1", "lapsed_buyer"))
	config := odp.DefaultConfig()
	config.Cache = odp.NewLRU(500, 5*time.Minute)
	segments, err := odp.NewSegments(config)
	must(err)
	defer segments.Close()
	c, err := client.New(shop, offline, client.WithSegmentFetcher(&manager{segments}))
	must(err)
	defer c.Close(context.Background())
	fetch(c, "vuid_1")
	// Output: vuid_1 [lapsed_buyer] <nil>
}

// viewed sends an ODP event.
func viewed(c *client.Client, user string) error {
	return c.SendODPEvent(context.Background(), client.ODPEvent{
		Action: "viewed", Identifiers: map[string]string{"FS_USER_ID": user}, Data: map[string]any{"sku": "4711"},
	})
}

// sizes are how many events were in each batch that ODP got.
func sizes(cloud *emulator.Server) (list []int) {
	for _, a := range cloud.Attempts("/v3/events") {
		var events []json.RawMessage
		must(json.Unmarshal(a.Body, &events))
		list = append(list, len(events))
	}
	return list
}

// Events go in batches of up to ten, or one by one if they needn't wait. (pages.md O-8)
func ExampleWithODPEventFlushInterval() {
	for _, interval := range []time.Duration{time.Minute, 0} {
		cloud, shop, stop := startODP()
		c, err := client.New(shop, offline, client.WithODPEventFlushInterval(interval))
		must(err)
		for range 12 {
			must(viewed(c, "u-17"))
		}
		must(c.Close(context.Background())) // delivers what waits
		fmt.Println(interval, sizes(cloud))
		stop()
	}
	// Output:
	// 1m0s [10 2]
	// 0s [1 1 1 1 1 1 1 1 1 1 1 1]
}

// An event is checked before it is taken. (pages.md O-1)
func ExampleClient_SendODPEvent() {
	_, shop, stop := startODP()
	defer stop()
	c, err := client.New(shop, offline)
	must(err)
	defer c.Close(context.Background())
	fmt.Println(viewed(c, "u-17"))
	fmt.Println(viewed(c, ""))
	// Output:
	// <nil>
	// send ODP event: invalid ODP event: an identifier is empty
}

// spool is an event API manager of one's own: it prints what it is to post.
type spool struct{}

func (spool) SendEvents(_ context.Context, b odp.EventBatch) error {
	fmt.Println("batch of", b.Events)
	return nil
}

// An event API manager of one's own: checks, batches and repetitions stay the client's.
// (pages.md O-6)
func ExampleWithODPEventAPI() {
	_, shop, stop := startODP()
	defer stop()
	c, err := client.New(shop, offline, client.WithODPEventAPI(spool{}))
	must(err)
	must(viewed(c, "u-17"))
	must(viewed(c, "u-18"))
	must(c.Close(context.Background()))
	// Output: batch of 2
}

// printer is an event manager of one's own.
type printer struct{}

func (printer) SendODPEvent(_ context.Context, e client.ODPEvent) error {
	fmt.Println(e.Action, e.Data)
	return nil
}

// An event manager of one's own: it gets every event at once, checked. (pages.md O-6)
func ExampleWithODPEventSender() {
	_, shop, stop := startODP()
	defer stop()
	c, err := client.New(shop, offline, client.WithODPEventSender(printer{}))
	must(err)
	defer c.Close(context.Background())
	fmt.Println(viewed(c, "u-17"))
	fmt.Println(viewed(c, ""))
	// Output:
	// viewed map[sku:4711]
	// <nil>
	// send ODP event: invalid ODP event: an identifier is empty
}
