package odp_test

import (
	"context"
	"errors"
	"fmt"

	"sortition/internal/emulator"
	"sortition/odp"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// startODP starts a local stand-in for ODP, where u-1 is a VIP and nobody else is
// anything.
func startODP() (cloud *emulator.Server, i odp.Integration, stop func()) {
	em, err := emulator.New(emulator.Options{ODPKey: "public-key"})
	must(err)
	cloud, err = emulator.Listen(em, "127.0.0.1:0")
	must(err)
	must(cloud.SetSegments("u-1", "vip"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // 1: the one sender never waits
	go func() { done <- cloud.Run(ctx) }()
	// Of a project: host, key, _ := p.ODP() and p.Segments().
	i = odp.Integration{Host: cloud.URLs().ODP, PublicKey: "public-key", Segments: []string{"vip"}}
	return cloud, i, func() { cancel(); must(<-done) }
}

// The segments of one user: asked for once, then from the cache.
func ExampleSegments() {
	ctx := context.Background()
	cloud, integration, stop := startODP()
	defer stop()
	segments, err := odp.NewSegments(odp.DefaultConfig())
	must(err)
	defer segments.Close()

	r := segments.Fetch(ctx, odp.User{Value: "u-1"}, 0)
	fmt.Println(errors.Is(r.Err, odp.ErrNotReady), r.Err)

	segments.Update(ctx, integration)
	for range 2 {
		r = segments.Fetch(ctx, odp.User{Value: "u-1"}, 0)
		fmt.Println(r.Segments, r.Err, r.Source == odp.FromCache)
	}
	fmt.Println("requests:", cloud.Requests(emulator.RouteSegments))
	// Output:
	// true fetch segments: there is no datafile yet
	// [vip] <nil> false
	// [vip] <nil> true
	// requests: 1
}

// The users of a micro-batch, side by side, in their order: the same user is asked for
// once. A policy says what is done about those whose segments can't be had.
func ExampleSegments_Resolve() {
	ctx := context.Background()
	cloud, integration, stop := startODP()
	defer stop()
	must(cloud.SetUnknown("stranger"))
	segments, err := odp.NewSegments(odp.DefaultConfig())
	must(err)
	defer segments.Close()
	segments.Update(ctx, integration)

	users := []odp.User{{Value: "u-1"}, {Value: "u-2"}, {Value: "stranger"}, {Value: "u-1"}}
	resolved, err := segments.Resolve(ctx, users, odp.Unknown, 0)
	must(err)
	for i, r := range resolved {
		fmt.Printf("%s %v %t %q\n", users[i].Value, r.Segments, r.Verdict == odp.DecideKnown, r.Code())
	}
	fmt.Println("requests:", cloud.Requests(emulator.RouteSegments))
	// Output:
	// u-1 [vip] true ""
	// u-2 [] true ""
	// stranger [] false "invalid_identifier"
	// u-1 [vip] true ""
	// requests: 3
}

// Events are checked, completed and sent in batches.
func ExampleEvents() {
	ctx := context.Background()
	cloud, integration, stop := startODP()
	defer stop()
	config := odp.DefaultEventsConfig()
	config.Sender = odp.Sender{Name: "shop", Version: "7"}
	config.OnFailure = func(b odp.EventBatch, err error) { fmt.Println("not delivered:", b.Events, err) }
	events, err := odp.NewEvents(config)
	must(err)
	events.Update(integration)
	done := make(chan error, 1) // 1: the one sender never waits
	go func() { done <- events.Run(ctx) }()

	must(events.SendEvent(ctx, odp.Event{Action: "viewed", Identifiers: map[string]string{"email": "a@b.example"}, Data: map[string]any{"sku": "4711"}, ID: "order-1"}))
	fmt.Println(events.SendEvent(ctx, odp.Event{Action: "viewed"}))

	remains, err := events.Close(ctx) // delivers what waits
	fmt.Println(len(remains), err, <-done)
	for _, a := range cloud.Attempts("/v3/events") {
		fmt.Println(string(a.Body))
	}
	// Output:
	// send ODP event: invalid ODP event: there must be an identifier
	// 0 <nil> <nil>
	// [{"type":"fullstack","action":"viewed","identifiers":{"email":"a@b.example"},"data":{"idempotence_id":"order-1","data_source_type":"sdk","data_source":"shop","data_source_version":"7","sku":"4711"}}]
}
