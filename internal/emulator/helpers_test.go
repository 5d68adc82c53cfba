package emulator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// A shop's datafile with one event, one bandit rule and an ODP integration.
const datafile = `{"version":"4","accountId":"770011","projectId":"880022","revision":"7","sdkKey":"SdkKeyDemo1","environmentKey":"production",
"anonymizeIP":true,"botFiltering":false,"sendFlagDecisions":true,"groups":[],"holdouts":[],
"attributes":[{"id":"501","key":"plan"}],"events":[{"id":"901","key":"purchase","experimentIds":["30002"]}],"audiences":[],
"typedAudiences":[{"id":"601","name":"seg","conditions":["and",["or",["or",{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":"vip"}]]]}],
"experiments":[{"id":"30002","key":"reco","layerId":"40002","status":"Running","audienceIds":[],"forcedVariations":{},
 "variations":[{"id":"50011","key":"a","featureEnabled":true},{"id":"50012","key":"b","featureEnabled":true}],
 "trafficAllocation":[],"cmab":{"attributeIds":["501"],"trafficAllocation":10000}}],
"featureFlags":[{"id":"20003","key":"reco","experimentIds":["30002"],"rolloutId":"","variables":[]}],"rollouts":[],
"integrations":[{"key":"odp","host":"http://127.0.0.1:1","publicKey":"pk-demo"}]}`

func revision(n int) []byte {
	return []byte(strings.Replace(datafile, `"revision":"7"`, fmt.Sprintf(`"revision":"%d"`, n), 1))
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// A fixed clock: events in the tests are of the minutes before.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// body is an event body with one conversion per uuid.
func body(uuids ...int) string {
	var visitors []string
	for _, n := range uuids {
		visitors = append(visitors, fmt.Sprintf(`{"visitor_id":"user-%d","attributes":[],"snapshots":[{"events":[
			{"entity_id":"901","key":"purchase","uuid":"%s","timestamp":%d}]}]}`, n, uuid(n), noon.Add(-time.Minute).UnixMilli()))
	}
	return `{"account_id":"770011","project_id":"880022","revision":"7","client_name":"test","client_version":"1",
		"anonymize_ip":true,"enrich_decisions":true,"visitors":[` + strings.Join(visitors, ",") + `]}`
}

// start starts an emulator with the datafile, and with the clock at noon.
func start(t *testing.T, change ...func(*emulator.Options)) *emulator.Server {
	t.Helper()
	opts := emulator.Options{Datafile: []byte(datafile), Token: "TOK", Seed: 1, Now: func() time.Time { return noon }}
	for _, c := range change {
		c(&opts)
	}
	return emulator.Start(t, opts)
}

type result struct {
	status int
	header http.Header
	body   string
	err    error
}

// newClient makes a client whose connections end with the test.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// do sends a request; headers are names and values by turns.
func do(t *testing.T, method, url, body string, headers ...string) result {
	t.Helper()
	return doContext(t, context.Background(), method, url, body, headers...)
}

func doContext(t *testing.T, ctx context.Context, method, url, body string, headers ...string) result {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := newClient(t).Do(r)
	if err != nil {
		return result{err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return result{res.StatusCode, res.Header, string(text), err}
}

func post(t *testing.T, em *emulator.Server, path, body string, headers ...string) result {
	t.Helper()
	return do(t, http.MethodPost, em.URL()+path, body, headers...)
}

func get(t *testing.T, em *emulator.Server, path string, headers ...string) result {
	t.Helper()
	return do(t, http.MethodGet, em.URL()+path, "", headers...)
}

// serve runs a server for the rest of the test.
func serve(t *testing.T, s *emulator.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // 1: Run may end first
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}
