package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

// admin makes a call of the admin API; it must be answered with status, and with
// JSON if with anything.
func admin(t *testing.T, em *emulator.Server, method, path, body string, status int) any {
	t.Helper()
	r := do(t, method, em.URL()+"/admin/"+path, body)
	require.NoError(t, r.err)
	require.Equal(t, status, r.status, "%s %s: %s", method, path, r.body)
	var value any
	if r.body != "" {
		require.NoError(t, json.Unmarshal([]byte(r.body), &value))
	}
	return value
}

func TestAdminIndex(t *testing.T) {
	em := start(t)
	index := admin(t, em, http.MethodGet, "", "", 200).(map[string]any)
	urls := index["urls"].(map[string]any)
	assert.Equal(t, em.URL()+"/v1/events", urls["events"])
	assert.Equal(t, em.URL()+"/datafiles/{sdk_key}.json", urls["datafile"])
	assert.Equal(t, em.URL()+"/predict/{}", urls["predict"])
	assert.Equal(t, em.URLs().Events, urls["events"])
	assert.Equal(t, "SdkKeyDemo1", urls["sdk_key"])
	// Every call that is listed is there.
	for _, c := range index["calls"].([]any) {
		for call := range strings.SplitSeq(c.(map[string]any)["call"].(string), ", ") {
			method, path, _ := strings.Cut(call, " ")
			path, _, _ = strings.Cut(path, "?")
			if strings.HasPrefix(path, "/admin/") {
				r := do(t, method, em.URL()+path, "")
				assert.NotEqual(t, 405, r.status, call)
				assert.NotContains(t, r.body, "page not found", call)
			}
		}
	}
	assert.Equal(t, 200, get(t, em, "/health").status)
	assert.Equal(t, 404, get(t, em, "/elsewhere").status)
}

func TestAdminDatafiles(t *testing.T) {
	em := start(t)
	set := admin(t, em, http.MethodPut, "datafiles/K2", string(revision(9)), 200).(map[string]any)
	assert.Equal(t, "9", set["revision"])
	assert.Equal(t, true, set["valid"])
	assert.JSONEq(t, string(revision(9)), get(t, em, "/datafiles/K2.json").body)
	set = admin(t, em, http.MethodPut, "datafiles/K2?last_modified=A&etag=", `{"version":"5"}`, 200).(map[string]any)
	assert.Equal(t, false, set["valid"])
	assert.NotEmpty(t, set["faults"])
	r := get(t, em, "/datafiles/K2.json")
	assert.Equal(t, "A", r.header.Get("Last-Modified"))
	assert.Empty(t, r.header.Get("ETag"))
	assert.Len(t, admin(t, em, http.MethodGet, "datafiles", "", 200), 2)
	admin(t, em, http.MethodDelete, "datafiles/K2", "", 204)
	admin(t, em, http.MethodDelete, "datafiles/K2", "", 404)
	assert.Equal(t, 403, get(t, em, "/datafiles/K2.json").status)
}

func TestAdminFaults(t *testing.T) {
	em := start(t)
	ids := admin(t, em, http.MethodPost, "faults", `{"route":"/v1/events","script":[500,429],"retry_after":"3"}`, 200).(map[string]any)["ids"]
	assert.Len(t, ids, 2)
	admin(t, em, http.MethodPost, "faults", `[{"route":"/v1/events","limit":{"requests":1,"per_ms":60000}},{"route":"/predict/","delay_ms":1,"hang":true}]`, 200)
	assert.Equal(t, 500, post(t, em, "/v1/events", body(1)).status)
	r := post(t, em, "/v1/events", body(1))
	assert.Equal(t, 429, r.status)
	assert.Equal(t, "3", r.header.Get("Retry-After"))
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)
	r = post(t, em, "/v1/events", body(1))
	assert.Equal(t, 429, r.status)
	assert.Equal(t, "60", r.header.Get("Retry-After"))

	list := admin(t, em, http.MethodGet, "faults", "", 200).([]any)
	require.Len(t, list, 2)
	assert.Equal(t, map[string]any{"id": 3.0, "hits": 1.0, "route": "/v1/events", "limit": map[string]any{"requests": 1.0, "per_ms": 60000.0}}, list[0])
	assert.Equal(t, map[string]any{"id": 4.0, "route": "/predict/", "delay_ms": 1.0, "hang": true}, list[1])
	admin(t, em, http.MethodDelete, "faults/3", "", 204)
	admin(t, em, http.MethodDelete, "faults/3", "", 404)
	admin(t, em, http.MethodDelete, "faults/x", "", 404)
	assert.Equal(t, 204, post(t, em, "/v1/events", body(1)).status)
	admin(t, em, http.MethodDelete, "faults", "", 204)
	assert.Empty(t, em.Faults())

	// What is wrong is said, and nothing of it is set.
	for _, wrong := range []string{
		`{`, `7`, `{"rout":"/"}`, `{"route":"/v1/events"}`, `{"route":"/","script":[500,42]}`, `{"route":"/","script":[500],"status":500}`,
		`[{"route":"/","status":500},{"route":"/","status":1}]`, `{"route":"/","limit":{"requests":5}}`,
	} {
		answer := admin(t, em, http.MethodPost, "faults", wrong, 400).(map[string]any)
		assert.NotEmpty(t, answer["error"], wrong)
	}
	assert.Empty(t, em.Faults())
}

func TestAdminAttemptsAndEvents(t *testing.T) {
	em := start(t)
	em.Script("/v1/events", 500)
	post(t, em, "/v1/events", body(1, 2), "Authorization", "SECRET")
	post(t, em, "/v1/events", body(1, 2))
	post(t, em, "/v1/events", body(3))
	get(t, em, "/datafiles/SdkKeyDemo1.json")

	assert.Len(t, admin(t, em, http.MethodGet, "attempts", "", 200), 4)
	list := admin(t, em, http.MethodGet, "attempts?route=/v1/events", "", 200).([]any)
	require.Len(t, list, 3)
	first := list[0].(map[string]any)
	assert.EqualValues(t, 500, first["status"])
	assert.Equal(t, "status 500", first["fault"])
	assert.Equal(t, false, first["accepted"])
	assert.Equal(t, body(1, 2), first["body"])
	assert.Len(t, first["visitors"], 2)
	assert.Equal(t, "(not kept)", first["headers"].(map[string]any)["Authorization"])
	assert.Len(t, admin(t, em, http.MethodGet, "attempts?route=/v1/events&accepted=true", "", 200), 2)
	assert.Len(t, admin(t, em, http.MethodGet, "attempts?accepted=false", "", 200), 1)
	assert.Len(t, admin(t, em, http.MethodGet, "attempts?after=3", "", 200), 1)
	assert.Len(t, admin(t, em, http.MethodGet, "attempts?limit=2", "", 200), 2)
	admin(t, em, http.MethodGet, "attempts?after=x", "", 400)
	admin(t, em, http.MethodGet, "events?limit=0", "", 400)

	events := admin(t, em, http.MethodGet, "events", "", 200).([]any)
	require.Len(t, events, 3)
	last := events[2].(map[string]any)
	assert.EqualValues(t, 3, last["attempt"])
	assert.Equal(t, uuid(3), last["uuid"])
	assert.Equal(t, "user-3", last["visitor_id"])
	assert.Equal(t, "user-3", last["raw"].(map[string]any)["visitor_id"])
	assert.Len(t, admin(t, em, http.MethodGet, "events?after=2", "", 200), 1)
	assert.Len(t, admin(t, em, http.MethodGet, "events?limit=1", "", 200), 2, "attempts come whole")
	assert.Equal(t, map[string]any{uuid(1): 1.0, uuid(2): 1.0, uuid(3): 1.0}, admin(t, em, http.MethodGet, "uuids", "", 200))
	counts := admin(t, em, http.MethodGet, "counts", "", 200).(map[string]any)
	assert.EqualValues(t, 3, counts["conversions"])
	assert.EqualValues(t, 3, counts["routes"].(map[string]any)["/v1/events"].(map[string]any)["requests"])

	admin(t, em, http.MethodDelete, "attempts", "", 204)
	assert.Empty(t, admin(t, em, http.MethodGet, "attempts", "", 200))
}

func TestAdminSegmentsAndPredictions(t *testing.T) {
	em := start(t)
	admin(t, em, http.MethodPost, "segments", `{"users":{"user/1":{"segments":["vip"]},"ghost":{"unknown":true}},"rule":{"fraction":0}}`, 204)
	assert.JSONEq(t, edges("vip", "qualified"), askSegments(t, em, "user/1", "vip").body)
	assert.JSONEq(t, edges("vip", "not_qualified"), askSegments(t, em, "other", "vip").body)
	assert.Contains(t, askSegments(t, em, "ghost", "vip").body, "INVALID_IDENTIFIER_EXCEPTION")
	table := admin(t, em, http.MethodGet, "segments", "", 200).(map[string]any)
	assert.Len(t, table["users"], 2)
	admin(t, em, http.MethodPost, "segments", `{"rule":{"fraction":7}}`, 400)
	admin(t, em, http.MethodPost, "segments", `{"user":"x"}`, 400)
	admin(t, em, http.MethodDelete, "segments", "", 204)
	assert.JSONEq(t, edges("vip", "not_qualified"), askSegments(t, em, "user/1", "vip").body)

	admin(t, em, http.MethodPost, "predictions", `{"rule":"30002","variation_id":50012}`, 204)
	assert.Equal(t, `{"predictions":[{"variation_id":50012}]}`, post(t, em, "/predict/30002", predictionRequest("u", "gold")).body)
	admin(t, em, http.MethodPost, "predictions", `[{"rule":"30002","user":"u","variation_id":null},{"rule":"9","variation_id":"1"}]`, 204)
	assert.Equal(t, `{"predictions":[{"variation_id":null}]}`, post(t, em, "/predict/30002", predictionRequest("u", "gold")).body)
	assert.Len(t, admin(t, em, http.MethodGet, "predictions", "", 200), 3)
	admin(t, em, http.MethodPost, "predictions", `{"rule":"30002"}`, 400)
	admin(t, em, http.MethodDelete, "predictions", "", 204)
	assert.Empty(t, admin(t, em, http.MethodGet, "predictions", "", 200))
}

func TestPage(t *testing.T) {
	em := start(t)
	assert.Contains(t, get(t, em, "/").body, "Nothing yet")
	post(t, em, "/v1/events", strings.Replace(body(1), "user-1", "<script>alert(1)</script>", 1))
	post(t, em, "/v1/events", "{")
	em.Script("/v1/events", 503)
	post(t, em, "/v1/events", body(2))
	fault(t, em, emulator.Fault{Route: "/v3/", Hang: true, Fraction: 0.2, Contains: "a<b", MinBytes: 9})
	fault(t, em, emulator.Fault{Route: "/v3/", Limit: emulator.Limit{Requests: 5, Per: time.Second}})
	_, err := em.SetDatafile("broken", []byte("{"))
	require.NoError(t, err)
	r := get(t, em, "/")
	assert.Equal(t, 200, r.status)
	assert.Equal(t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
	for _, want := range []string{"not_json", "fault: status 503", "hang, 20 % of them, with &#34;a&lt;b&#34;, from 9 bytes", "status 429 beyond 5 requests in 1s", uuid(2), "&lt;script&gt;", em.URL() + "/v1/events", "SdkKeyDemo1", "broken"} {
		assert.Contains(t, r.body, want)
	}
	assert.NotContains(t, r.body, "<script>")
	assert.NotContains(t, r.body, "src=")
	assert.Contains(t, r.body, "</html>", "to the end")
}
