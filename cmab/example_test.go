package cmab_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"sortition/cmab"
	"sortition/decision"
)

const bandit = `{"version":"4","projectId":"880022","accountId":"1","revision":"42","groups":[],"events":[],"audiences":[],
"attributes":[{"id":"501","key":"tier"}],
"experiments":[{"id":"30002","key":"reco_cmab","layerId":"2","status":"Running","audienceIds":[],"forcedVariations":{},
"variations":[{"id":"50011","key":"reco_a"},{"id":"50012","key":"reco_b"}],"trafficAllocation":[],
"cmab":{"attributeIds":["501"],"trafficAllocation":10000}}],
"rollouts":[],"featureFlags":[{"id":"9","key":"reco","experimentIds":["30002"],"rolloutId":"","variables":[]}]}`

// The engine asks the Predictor when a user reaches a bandit rule.
func ExamplePredictor() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.URL.Path)
		fmt.Fprint(w, `{"predictions":[{"variation_id":"50012"}]}`)
	}))
	defer service.Close()

	config := cmab.DefaultConfig()
	config.Endpoint = service.URL + "/predict/{}"
	predictor, err := cmab.New(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer predictor.Close()

	project, err := decision.Compile([]byte(bandit))
	if err != nil {
		fmt.Println(err)
		return
	}
	env := decision.Env{Predictor: predictor}
	for range 2 { // the second time it is remembered
		var u decision.User
		u.Reset(project, "u-17")
		u.SetAttribute("tier", decision.String("gold"))
		d := project.Decide(context.Background(), &u, "reco", 0, &env)
		variation, _ := d.VariationKey()
		fmt.Println(variation)
	}
	fmt.Printf("%d of %d from the cache\n", predictor.Stats().Hits, predictor.Stats().Calls)
	// Output:
	// asked for /predict/30002
	// reco_b
	// reco_b
	// 1 of 2 from the cache
}
