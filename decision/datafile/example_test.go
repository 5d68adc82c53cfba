package datafile_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"sortition/decision"
	"sortition/decision/datafile"
)

const sample = `{"version":"4","projectId":"880022","accountId":"1","revision":"42","groups":[],"experiments":[],"events":[],
"audiences":[],"attributes":[],"rollouts":[{"id":"r","experiments":[{"id":"1","key":"everyone","layerId":"2","status":"Running",
"audienceIds":[],"forcedVariations":{},"variations":[{"id":"3","key":"on","featureEnabled":true}],
"trafficAllocation":[{"entityId":"3","endOfRange":10000}]}]}],
"featureFlags":[{"id":"9","key":"checkout","experimentIds":[],"rolloutId":"r","variables":[]}]}`

// A poller keeps a project up to date; decisions load it with one atomic read.
func ExamplePoller() {
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, sample) }))
	defer cdn.Close()

	source, err := datafile.NewPoller(datafile.PollConfig{SDKKey: "SdkKeyDemo1", URLTemplate: cdn.URL + "/datafiles/{sdk_key}.json"})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1) // Run's result
	go func() { ended <- source.Run(ctx) }()
	if err := datafile.WaitReady(ctx, source, 10*time.Second); err != nil {
		fmt.Println(err)
	}

	p := source.Current() // once per batch of decisions
	fmt.Println("revision", p.Revision(), "from the", source.Status().Origin)
	var u decision.User
	u.Reset(p, "u-17")
	for _, d := range p.DecideAll(ctx, nil, &u, 0, nil) {
		variation, _ := d.VariationKey()
		fmt.Println(d.FlagKey(), variation)
	}

	stop()
	fmt.Println(<-ended)
	// Output:
	// revision 42 from the cdn
	// checkout on
	// <nil>
}

// A datafile at hand needs no fetching.
func ExampleNewStatic() {
	source, err := datafile.NewStatic([]byte(sample), datafile.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(source.Current().Revision(), source.Status().Origin)
	// Output: 42 given
}
