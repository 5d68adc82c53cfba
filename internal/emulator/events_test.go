package emulator_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

func codes(problems []sinks.Problem) (codes []sinks.Code) {
	for _, p := range problems {
		codes = append(codes, p.Code)
	}
	return codes
}

func TestEvents(t *testing.T) {
	em := start(t)
	r := post(t, em, "/v1/events", body(1, 2))
	assert.Equal(t, 204, r.status)
	assert.Empty(t, r.body)
	received := em.Received()
	require.Len(t, received, 1)
	a := received[0]
	assert.Equal(t, body(1, 2), string(a.Body))
	assert.Equal(t, int64(1), a.Seq)
	assert.Equal(t, noon, a.Time)
	assert.Empty(t, a.Problems)
	require.Len(t, a.Visitors, 2)
	assert.Equal(t, "user-2", a.Visitors[1].ID)
	assert.Equal(t, uuid(2), a.Visitors[1].UUID)
	assert.Equal(t, "purchase", a.Visitors[1].Key)
	assert.Equal(t, "901", a.Visitors[1].EntityID)
	assert.False(t, a.Visitors[1].Impression)
	assert.JSONEq(t, body(2)[strings.Index(body(2), `{"visitor_id"`):len(body(2))-2], string(a.Visitors[1].Raw))
	assert.Equal(t, a.Visitors, em.Visitors())
	assert.Equal(t, 405, get(t, em, "/v1/events").status)
}

// 204, whatever it is; the attempt says what is wrong with it.
func TestEventsAreValidated(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		want []sinks.Code
	}{
		"no JSON":       {"{", []sinks.Code{sinks.CodeNotJSON}},
		"nothing":       {"", []sinks.Code{sinks.CodeNotJSON, "wrong_content_type"}},
		"unknown event": {strings.Replace(body(1), `"purchase"`, `"other"`, 1), []sinks.Code{sinks.CodeUnknownEvent}},
		"other project": {strings.Replace(body(1), "880022", "1", 1), []sinks.Code{sinks.CodeWrongProject}},
		"future":        {strings.Replace(body(1), `"timestamp":17`, `"timestamp":18`, 1), []sinks.Code{sinks.CodeFutureTimestamp}},
		"too large":     {body(1) + strings.Repeat(" ", sinks.MaxEventBody), []sinks.Code{sinks.CodeTooLarge}},
	} {
		em := start(t)
		assert.Equal(t, 204, post(t, em, "/v1/events", tt.body).status, name)
		require.Len(t, em.Received(), 1, name)
		assert.Equal(t, tt.want, codes(em.Received()[0].Problems), name)
		for _, code := range tt.want {
			assert.Equal(t, int64(1), em.Counts().Problems[code], name)
		}
	}
	em := start(t)
	r := post(t, em, "/v1/events", body(1), "Content-Type", "text/plain")
	assert.Equal(t, 204, r.status)
	assert.Equal(t, []sinks.Code{"wrong_content_type"}, codes(em.Received()[0].Problems))
}

// Memory goes from body to body, but not over what was refused: a retry is no repeat.
func TestEventsRepeats(t *testing.T) {
	em := start(t)
	em.Script("/v1/events", 500)
	post(t, em, "/v1/events", body(1))
	post(t, em, "/v1/events", body(1))
	assert.Zero(t, em.Counts().Repeats)
	post(t, em, "/v1/events", body(1))
	assert.Equal(t, int64(1), em.Counts().Repeats)
	post(t, em, "/v1/events", strings.Replace(body(1), "user-1", "other", 1))
	c := em.Counts()
	assert.Equal(t, int64(1), c.Problems[sinks.CodeUUIDConflict])
	assert.Equal(t, 1, c.UUIDs)
	assert.Equal(t, int64(3), c.Visitors)
	assert.Equal(t, int64(3), c.Conversions)
	assert.Equal(t, emulator.RouteCounts{Requests: 4, Accepted: 3, Faults: 1, Statuses: map[int]int64{500: 1, 204: 3}}, c.Routes[emulator.RouteEvents])

	require.NoError(t, em.Clear())
	assert.Empty(t, em.Attempts(""))
	assert.Zero(t, em.Counts().Visitors)
	post(t, em, "/v1/events", strings.Replace(body(1), "user-1", "third", 1))
	assert.Zero(t, em.Counts().Problems[sinks.CodeUUIDConflict], "forgotten by the validator too")
	assert.Equal(t, int64(5), em.Received()[0].Seq, "numbers go on")
}

// An event made with a revision that was served before is held against that one.
func TestEventsOfEarlierRevision(t *testing.T) {
	em := start(t)
	next := strings.NewReplacer(`"revision":"7"`, `"revision":"8"`, `{"id":"901","key":"purchase","experimentIds":["30002"]}`, ``).Replace(datafile)
	faults, err := em.SetDatafile("SdkKeyDemo1", []byte(next))
	require.NoError(t, err)
	require.NoError(t, faults)
	post(t, em, "/v1/events", body(1))
	post(t, em, "/v1/events", strings.Replace(body(2), `"revision":"7"`, `"revision":"8"`, 1))
	post(t, em, "/v1/events", strings.Replace(body(3), `"revision":"7"`, `"revision":"never seen"`, 1))
	received := em.Received()
	assert.Empty(t, received[0].Problems)
	assert.Equal(t, []sinks.Code{sinks.CodeUnknownEvent}, codes(received[1].Problems))
	assert.Equal(t, []sinks.Code{sinks.CodeUnknownEvent}, codes(received[2].Problems), "the latest revision counts")
}

func TestMemoryIsBounded(t *testing.T) {
	em := start(t, func(o *emulator.Options) { o.MaxAttempts, o.MaxUUIDs = 3, 4 })
	for n := range 6 {
		post(t, em, "/v1/events", body(n))
	}
	received := em.Received()
	require.Len(t, received, 3)
	assert.Equal(t, int64(4), received[0].Seq)
	c := em.Counts()
	assert.Equal(t, int64(3), c.Forgotten)
	assert.Equal(t, int64(6), c.Visitors)
	assert.Equal(t, 4, c.UUIDs)
	assert.Equal(t, int64(2), c.UUIDsUncounted)

	em = start(t, func(o *emulator.Options) { o.MaxBytes = int64(2*len(body(1)) + 10) })
	for n := range 5 {
		post(t, em, "/v1/events", body(n))
	}
	assert.Len(t, em.Received(), 2)
	post(t, em, "/v1/events", body(1, 2, 3, 4, 5, 6, 7, 8))
	assert.Len(t, em.Received(), 1, "the latest is always kept")
}

func TestHugeRequestIsRefused(t *testing.T) {
	em := start(t)
	r := post(t, em, "/v1/events", strings.Repeat(" ", 16<<20+1))
	assert.True(t, r.status == 413 || r.err != nil, "it may hang up before all is sent")
	assert.Empty(t, em.Received())
}

func TestBrowsersMayPost(t *testing.T) {
	em := start(t)
	r := do(t, http.MethodOptions, em.URL()+"/v1/events", "", "Origin", "http://shop.test", "Access-Control-Request-Method", "POST")
	assert.Equal(t, 204, r.status)
	assert.Equal(t, "*", r.header.Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "*", post(t, em, "/v1/events", body(1)).header.Get("Access-Control-Allow-Origin"))
	assert.Empty(t, get(t, em, "/admin/counts").header.Get("Access-Control-Allow-Origin"), "but not see the admin API")
}

// A client that leaves amid its body sent nothing.
func TestBodyCutShort(t *testing.T) {
	em := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, em.URL()+"/v1/events", &failing{text: `{"visitors":`})
	require.NoError(t, err)
	_, err = newClient(t).Do(r)
	require.Error(t, err)
	post(t, em, "/v1/events", body(1))
	assert.Len(t, em.Received(), 1)
}

// A failing reader fails after its text.
type failing struct{ text string }

func (f *failing) Read(p []byte) (int, error) {
	n := copy(p, f.text)
	if f.text = f.text[n:]; n == 0 {
		return 0, errors.New("gone")
	}
	return n, nil
}
