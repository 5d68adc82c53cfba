package emulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

const segmentsQuery = `query($userId:String,$audiences:[String]){customer(fs_user_id:$userId){audiences(subset:$audiences){edges{node{name state}}}}}`

func askSegments(t *testing.T, em *emulator.Server, user string, audiences ...string) result {
	t.Helper()
	text, err := json.Marshal(map[string]any{"query": segmentsQuery, "variables": map[string]any{"userId": user, "audiences": audiences}})
	require.NoError(t, err)
	return post(t, em, "/v3/graphql", string(text), "X-Api-Key", "pk-demo")
}

func edges(pairs ...string) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf(`{"node":{"name":%q,"state":%q}}`, pairs[i], pairs[i+1]))
	}
	return `{"data":{"customer":{"audiences":{"edges":[` + strings.Join(list, ",") + `]}}}}`
}

func TestSegments(t *testing.T) {
	em := start(t)
	require.NoError(t, em.SetSegments("user-1", "vip", "secret"))
	require.NoError(t, em.SetSegments("nobody"))
	r := askSegments(t, em, "user-1", "vip", "b2")
	assert.Equal(t, 200, r.status)
	assert.JSONEq(t, edges("vip", "qualified", "b2", "not_qualified"), r.body, "only what was asked for")
	assert.JSONEq(t, edges("vip", "not_qualified"), askSegments(t, em, "nobody", "vip").body)
	assert.JSONEq(t, edges(), askSegments(t, em, "nobody").body)

	require.NoError(t, em.SetUnknown("ghost"))
	r = askSegments(t, em, "ghost", "vip")
	assert.Equal(t, 200, r.status)
	assert.JSONEq(t, `{"errors":[{"message":"could not resolve fs_user_id","path":["customer"],
		"extensions":{"classification":"DataFetchingException","code":"INVALID_IDENTIFIER_EXCEPTION"}}],"data":{"customer":null}}`, r.body)
	require.NoError(t, em.SetSegmentRule(emulator.SegmentRule{Unknown: true}))
	assert.Contains(t, askSegments(t, em, "anybody", "vip").body, "INVALID_IDENTIFIER_EXCEPTION")
	assert.Contains(t, askSegments(t, em, "user-1", "vip").body, `"qualified"`)
	assert.Error(t, em.SetSegmentRule(emulator.SegmentRule{Fraction: 2}))
}

func TestSegmentsBySeed(t *testing.T) {
	count := func(seed uint64, fraction float64) (users []string) {
		em := start(t, func(o *emulator.Options) { o.Seed = seed })
		require.NoError(t, em.SetSegmentRule(emulator.SegmentRule{Fraction: fraction}))
		for n := range 200 {
			user := fmt.Sprint("user-", n)
			if strings.Contains(askSegments(t, em, user, "vip").body, `"qualified"`) {
				users = append(users, user)
			}
		}
		return users
	}
	first := count(1, 0.3)
	assert.InDelta(t, 60, len(first), 25)
	assert.Equal(t, first, count(1, 0.3))
	assert.NotEqual(t, first, count(2, 0.3))
	assert.Empty(t, count(1, 0))
	assert.Len(t, count(1, 1), 200)
}

func TestSegmentsKey(t *testing.T) {
	em := start(t)
	ask := func(em *emulator.Server, headers ...string) int {
		return post(t, em, "/v3/graphql", `{"query":"`+segmentsQuery+`","variables":{"userId":"u","audiences":[]}}`, headers...).status
	}
	assert.Equal(t, 403, ask(em))
	assert.Equal(t, 403, ask(em, "X-Api-Key", "other"))
	assert.Equal(t, 200, ask(em, "x-api-key", "pk-demo"))
	em = start(t, func(o *emulator.Options) { o.ODPKey = "mine" })
	assert.Equal(t, 403, ask(em, "X-Api-Key", "pk-demo"))
	assert.Equal(t, 200, ask(em, "X-Api-Key", "mine"))
	em = start(t, func(o *emulator.Options) { o.Datafile = nil })
	assert.Equal(t, 200, ask(em, "X-Api-Key", "any"))
	assert.Equal(t, 403, ask(em))
	assert.Equal(t, 405, get(t, em, "/v3/graphql").status)
}

// The query's text is free; values may stand in it, as the JavaScript SDK has them.
func TestSegmentsQueries(t *testing.T) {
	em := start(t)
	require.NoError(t, em.SetSegments(`o"brien`, "vip"))
	for query, want := range map[string]string{
		`query { customer(fs_user_id : "o\"brien") { audiences(subset: ["vip","b2"]) { edges { node { name state } } } } }`:      edges("vip", "qualified", "b2", "not_qualified"),
		"query {\n customer ( vuid:\"x\" ) {audiences( subset:[] ) {edges {node {name state}}}}}":                                edges(),
		`query($id: String, $list: [String]) {customer(fs_user_id: $id) {audiences(subset: $list) {edges {node {name state}}}}}`: edges("vip", "qualified"),
	} {
		text, err := json.Marshal(map[string]any{"query": query, "variables": map[string]any{"id": `o"brien`, "list": []string{"vip"}}})
		require.NoError(t, err)
		assert.JSONEq(t, want, post(t, em, "/v3/graphql", string(text), "X-Api-Key", "pk-demo").body, query)
	}
	for _, bad := range []string{
		``, `7`, `{}`, `{"query":"{other}"}`,
		`{"query":"{customer(email:\"x\"){audiences(subset:[]){edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:7){audiences(subset:[]){edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:$u){audiences(subset:[]){edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:\"u\"){audiences(subset:[]){edges{node{name}}}}}"}`,
		`{"query":"{customer(fs_user_id:\"u\"){audiences(first:[]){edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:\"u\"){audiences{edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:\"u\"){audiences(subset:\"vip\"){edges{node{name state}}}}}"}`,
		`{"query":"{customer(fs_user_id:\"u"}`,
	} {
		r := post(t, em, "/v3/graphql", bad, "X-Api-Key", "pk-demo")
		assert.Equal(t, 200, r.status, bad)
		assert.Contains(t, r.body, "InvalidSyntax", bad)
	}
	attempts := em.Attempts("/v3/graphql")
	assert.NotEmpty(t, attempts[len(attempts)-1].Problems)
}

func odpEvent(change ...string) string {
	return strings.NewReplacer(change...).Replace(`{"type":"fullstack","action":"viewed","identifiers":{"fs_user_id":"u1"},
		"data":{"idempotence_id":"i","data_source_type":"sdk","data_source":"test","data_source_version":"1","sku":9,"n":null}}`)
}

func TestODPEvents(t *testing.T) {
	em := start(t)
	send := func(body string) result { return post(t, em, "/v3/events", body, "X-Api-Key", "pk-demo") }
	r := send("[" + odpEvent() + "]")
	assert.Equal(t, 202, r.status)
	assert.Contains(t, r.body, `"title":"Accepted"`)
	assert.Equal(t, 202, send("["+strings.Repeat(odpEvent()+",", 9)+odpEvent()+"]").status)
	for name, bad := range map[string]string{
		"no JSON":         "[",
		"an object":       odpEvent(),
		"none":            "[]",
		"eleven":          "[" + strings.Repeat(odpEvent()+",", 10) + odpEvent() + "]",
		"no type":         "[" + odpEvent(`"type"`, `"x"`) + "]",
		"empty action":    "[" + odpEvent(`"viewed"`, `""`) + "]",
		"no identifiers":  "[" + odpEvent(`{"fs_user_id":"u1"}`, `{}`) + "]",
		"data null":       "[" + `{"type":"a","action":"b","identifiers":{"c":"d"},"data":null}` + "]",
		"no common field": "[" + odpEvent(`"idempotence_id"`, `"x"`) + "]",
		"nested":          "[" + odpEvent(`"sku":9`, `"sku":{"a":1}`) + "]",
	} {
		assert.Equal(t, 400, send(bad).status, name)
	}
	assert.Equal(t, 403, post(t, em, "/v3/events", "["+odpEvent()+"]").status)
	em.Script("/v3/events", 500, 500, 202)
	assert.Equal(t, []int{500, 500, 202}, []int{send("[" + odpEvent() + "]").status, send("[" + odpEvent() + "]").status, send("[" + odpEvent() + "]").status})
	assert.Equal(t, int64(3), em.Counts().Routes[emulator.RouteODPEvents].Accepted)
	assert.Equal(t, int64(12), em.Counts().ODPEvents, "of accepted bodies")
	assert.Equal(t, map[string]int{"i": 12}, em.ODPIDs())
	assert.Equal(t, 1, em.Counts().ODPIDs)
	assert.Empty(t, em.Received(), "those are the event endpoint's")
}
