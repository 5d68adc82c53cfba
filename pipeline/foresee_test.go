package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/cmab"
	"sortition/decision"
	"sortition/examples"
	"sortition/schemas"
)

// banditProject has flags whose rules ask, of which some are hidden behind an A/B test
// that keeps its users, an audience, a whitelist, or a bandit that comes first; and one
// flag that never asks.
func banditProject(t testing.TB) *decision.Project {
	t.Helper()
	bandit := func(id, audience, attributes string, traffic int) string {
		return fmt.Sprintf(`{"id":%q,"key":"k%[1]s","layerId":"l%[1]s","status":"Running","audienceIds":[%s],"forcedVariations":{"listed":"a"},
"variations":[{"id":"%[1]sa","key":"a","featureEnabled":true},{"id":"%[1]sb","key":"b","featureEnabled":true}],"trafficAllocation":[],
"cmab":{"attributeIds":[%[3]s],"trafficAllocation":%[4]d}}`, id, audience, attributes, traffic)
	}
	test := func(id, audience string) string {
		return fmt.Sprintf(`{"id":%q,"key":"k%[1]s","layerId":"l%[1]s","status":"Running","audienceIds":[%s],"forcedVariations":{},
"variations":[{"id":"%[1]sa","key":"a","featureEnabled":true}],"trafficAllocation":[{"entityId":"%[1]sa","endOfRange":5000}]}`, id, audience)
	}
	p, err := decision.Compile([]byte(`{"version":"4","projectId":"1","accountId":"1","revision":"7","sendFlagDecisions":true,"groups":[],"rollouts":[],
"events":[{"id":"e","key":"purchase","experimentIds":[]}],
"attributes":[{"id":"501","key":"tier"},{"id":"502","key":"age"},{"id":"503","key":"country"}],
"audiences":[{"id":"gb","name":"gb","conditions":"[\"or\",{\"type\":\"custom_attribute\",\"match\":\"exact\",\"name\":\"country\",\"value\":\"GB\"}]"}],
"experiments":[` + strings.Join([]string{
		bandit("1", "", `"501","502"`, 10000), test("2", `"gb"`), bandit("3", "", `"502"`, 9000), bandit("4", "", `"501"`, 10000),
		bandit("5", `"gb"`, `"502"`, 10000), test("6", ""),
	}, ",") + `],"featureFlags":[
{"id":"f1","key":"one","rolloutId":"","experimentIds":["1"],"variables":[]},
{"id":"f2","key":"plain","rolloutId":"","experimentIds":["6"],"variables":[]},
{"id":"f3","key":"chain","rolloutId":"","experimentIds":["2","3","4"],"variables":[]},
{"id":"f4","key":"british","rolloutId":"","experimentIds":["5"],"variables":[]}]}`))
	require.NoError(t, err)
	require.Equal(t, []string{"one", "chain", "british"}, p.BanditFlags())
	return p
}

// predictorOf asks a service in this process.
func predictorOf(t testing.TB, service http.HandlerFunc, change func(*cmab.Config)) *cmab.Predictor {
	t.Helper()
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	c := cmab.DefaultConfig()
	c.Endpoint, c.NewUUID, c.InitialBackoff, c.Budget = server.URL+"/{}", PredictionID, 0, 10*time.Second
	if change != nil {
		change(&c)
	}
	p, err := cmab.New(c)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func newBanditAssign(t testing.TB, to Producer, p decision.Predictor, change ...func(*Config)) *Assign {
	t.Helper()
	cfg := testConfig()
	cfg.Env, cfg.PredictionBudget = &decision.Env{Predictor: p}, 2*time.Second
	for _, c := range change {
		c(&cfg)
	}
	h, err := NewAssign(cfg, AtLeastOnce(to), NewLatest(NewSnapshot(banditProject(t))), nil)
	require.NoError(t, err)
	return h
}

// askSerially makes the stage ask where the engine asks: one after another.
func askSerially(h *Assign) {
	w := h.newWorker()
	w.settings.Env.Predictor, w.foresight = w.foresight.real, nil
	w.renew()
	h.spare.giveBack(w)
}

// A question is what the service is asked, without the id.
type question struct{ rule, user, attributes string }

func read(t testing.TB, r *http.Request) (q question, body string) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return q, ""
	}
	var sent struct {
		Instances []struct {
			VisitorID    string
			ExperimentID string
			Attributes   json.RawMessage
		}
	}
	assert.NoError(t, json.Unmarshal(text, &sent))
	i := sent.Instances[0]
	return question{i.ExperimentID, i.VisitorID, string(i.Attributes)}, string(text)
}

func answer(w io.Writer, variation string) {
	_, _ = fmt.Fprintf(w, `{"predictions":[{"variation_id":%q}]}`, variation)
}

// moody answers the same question always the same: a variation, one that the rule
// doesn't have, or a refusal.
type moody struct {
	t          testing.TB
	knowsAll   bool // it names no other variation
	mu         sync.Mutex
	asked      map[string]int // bodies
	hasRefused map[string]bool
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, body := read(m.t, r)
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, q)
	mood := h.Sum32() % 100
	m.mu.Lock()
	m.asked[body]++
	m.hasRefused[body] = mood < 15
	m.mu.Unlock()
	switch {
	case mood < 15:
		w.WriteHeader(http.StatusBadRequest)
	case mood < 30 && !m.knowsAll:
		answer(w, "999")
	default:
		answer(w, q.rule+string("ab"[mood%2]))
	}
}

// activitiesOf makes records in which users come again, with other attributes, options
// and forced decisions.
func activitiesOf(r *rand.Rand, n int, resets bool) *Batch {
	options := []string{"IGNORE_CMAB_CACHE", "INVALIDATE_USER_CMAB_CACHE", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS"}
	if resets {
		options = append(options, "RESET_CMAB_CACHE")
	}
	var values []string
	for range n {
		if r.IntN(30) == 0 {
			values = append(values, "nonsense")
			continue
		}
		user := fmt.Sprint("u", r.IntN(n/3+1))
		if r.IntN(30) == 0 {
			user = "listed"
		}
		a := fmt.Sprintf(`{"user_id":"\u0020%s","attributes":{"tier":"\u0067%d","age":%d,"country":%q},"events":[{"key":"purchase"}]`,
			user, r.IntN(2), r.IntN(3), []string{"GB", "FR"}[r.IntN(2)])
		a = strings.Replace(a, `\u0020listed`, `listed`, 1)
		if r.IntN(4) == 0 {
			a += `,"options":["` + options[r.IntN(len(options))] + `"]`
		}
		switch r.IntN(8) {
		case 0:
			a += `,"decide":["plain"]`
		case 1:
			a += `,"decide":["chain","nothing","one","chain"]`
		case 2:
			a += `,"forced_decisions":[{"flag_key":"one","variation_key":"a"},{"flag_key":"chain","rule_key":"k3","variation_key":"b"}]`
		}
		values = append(values, a+"}")
	}
	return records(values...)
}

// Foreseen predictions give what asking one after another gives, byte for byte, and ask
// for no more; less only where the same question was refused before.
func TestForeseenIsAskedSerially(t *testing.T) {
	for seed := range uint64(12) {
		var outputs [2][]Output
		var services [2]*moody
		var stats [2]cmab.Stats
		for way := range 2 {
			r := rand.New(rand.NewPCG(seed, 21))
			service := &moody{t: t, knowsAll: seed%2 == 1, asked: map[string]int{}, hasRefused: map[string]bool{}}
			p := predictorOf(t, service.ServeHTTP, func(c *cmab.Config) {
				if seed%3 == 2 {
					c.CacheSize = 0
				}
			})
			to := &store{}
			kept := &profileStore{kept: map[string]*decision.Profile{" u1": {UserID: " u1", Entries: map[string]decision.ProfileEntry{"1": {VariationID: "1b"}}}}}
			h := newBanditAssign(t, to, p, func(c *Config) {
				c.Profiles, c.PredictionBudget = NewProfiles(kept, ProfilesHold), 0
				c.PredictionConcurrency = 1 + int(seed)*7
			})
			if way == 0 {
				askSerially(h)
			}
			for range 3 {
				require.NoError(t, h.Handle(messageOf(activitiesOf(r, 150, seed%2 == 1))))
			}
			outputs[way], services[way], stats[way] = to.kept, service, p.Stats()
		}
		require.Equal(t, outputs[0], outputs[1], "seed %d", seed)
		serial, foreseen := services[0], services[1]
		for body, n := range foreseen.asked {
			require.LessOrEqual(t, n, serial.asked[body], "seed %d: asked without need: %s", seed, body)
		}
		unknown := stats[0].Unknown
		for body, n := range serial.asked {
			if foreseen.asked[body] < n {
				require.True(t, serial.hasRefused[body] || strings.Contains(body, " u") || n > 1, "seed %d: %s", seed, body)
			}
		}
		require.Positive(t, stats[0].Failures)
		require.Equal(t, seed%2 == 0, unknown > 0)
		if seed%3 != 2 {
			require.Positive(t, stats[0].Hits)
		}
	}
}

// All that a batch needs is under way at once, up to the bound: the service answers
// nobody before so many have come.
func TestPredictionsAreUnderWayTogether(t *testing.T) {
	for name, c := range map[string]struct{ users, concurrency, atOnce int }{
		"all":     {200, 300, 200},
		"default": {128, 0, 64},
		"bounded": {100, 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			together, most, all := make(chan struct{}), 0, 0
			waiting := 0
			p := predictorOf(t, func(w http.ResponseWriter, r *http.Request) {
				q, _ := read(t, r)
				mu.Lock()
				all++
				waiting++
				most = max(most, waiting)
				mine := together
				if waiting == c.atOnce {
					waiting, together = 0, make(chan struct{})
					close(mine)
				}
				mu.Unlock()
				select {
				case <-mine:
					answer(w, q.rule+"a")
				case <-r.Context().Done():
				}
			}, nil)
			to := &store{}
			h := newBanditAssign(t, to, p, func(f *Config) { f.PredictionConcurrency = c.concurrency })
			var values []string
			for i := range c.users {
				for range 3 { // they come again, and ask once
					values = append(values, fmt.Sprintf(`{"user_id":"u%d","decide":["one"],"attributes":{"age":3}}`, i))
				}
			}
			require.NoError(t, h.Handle(messageOf(records(values...))))
			assert.Equal(t, c.users, all)
			assert.Equal(t, c.atOnce, most)
			require.Len(t, to.in("decisions"), len(values))
			for _, o := range to.in("decisions") {
				require.Contains(t, string(o.Value), `"variation_key":"a"`)
			}
		})
	}
}

// roundTrip is a service without a network, for bubbles.
type roundTrip func(ctx context.Context, q question) (string, error)

func bubbled(t *testing.T, f roundTrip) *cmab.Predictor {
	c := cmab.DefaultConfig()
	c.NewUUID = PredictionID
	c.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		q, _ := read(t, r)
		variation, err := f(r.Context(), q)
		if err != nil {
			return nil, err
		}
		var body bytes.Buffer
		answer(&body, variation)
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&body)}, nil
	})}
	p, err := cmab.New(c)
	require.NoError(t, err)
	return p
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func hang(ctx context.Context, _ question) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func after(d time.Duration) roundTrip {
	return func(ctx context.Context, q question) (string, error) {
		select {
		case <-time.After(d):
			return q.rule + "a", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// What a batch waits for: about one budget for what fails, all the time it takes for
// what is slow.
func TestPatience(t *testing.T) {
	each := func(format string) (values []string) {
		for i := range 1000 {
			values = append(values, fmt.Sprintf(format, i))
		}
		return values
	}
	users := each(`{"user_id":"u%d","decide":["one"]}`)
	second := time.Second
	for name, c := range map[string]struct {
		service  roundTrip
		values   []string
		warm     int           // how many records have been decided before, with a service that works
		takes    time.Duration // exactly
		decided  int           // decisions that are no errors
		requests uint64
	}{
		"all hang":                           {hang, users, 0, 2 * second, 0, 64},
		"all hang, of which some are cached": {hang, users, 500, 2 * second, 500, 64},
		"all hang, of several rules":         {hang, each(`{"user_id":"u%d","attributes":{"country":"GB"},"decide":["one","british"]}`), 0, 2 * second, 0, 64},
		"one user hangs":                     {hang, each(`{"user_id":"u","decide":["one"],"attributes":{"age":%d}}`), 0, 2 * second, 0, 1},
		"the same, always":                   {hang, slices.Repeat(users[:1], 1000), 0, 2 * second, 0, 1},
		"the same, refused":                  {func(context.Context, question) (string, error) { return "", errTransport }, slices.Repeat(users[:1], 1000), 0, 100 * time.Millisecond, 0, 2},
		"answers that lead on": {func(ctx context.Context, q question) (string, error) {
			if q.rule == "3" {
				q.rule = "another"
			}
			return after(50*time.Millisecond)(ctx, q)
		}, each(`{"user_id":"u%d","attributes":{"tier":1},"decide":["chain"]}`)[:60], 0, 100 * time.Millisecond, 60, 112},
		"few hang": {func(ctx context.Context, q question) (string, error) {
			if strings.HasSuffix(q.user, "77") {
				return hang(ctx, q)
			}
			return after(50*time.Millisecond)(ctx, q)
		}, users, 0, 2*second + 900*time.Millisecond, 990, 1000},
		"one rule hangs": {func(ctx context.Context, q question) (string, error) {
			if q.rule == "5" {
				return hang(ctx, q)
			}
			return after(0)(ctx, q)
		}, each(`{"user_id":"u%d","attributes":{"country":"GB"},"decide":["one","british"]}`), 0, 2 * second, 1000, 1064},
		"every other user hangs": {func(ctx context.Context, q question) (string, error) {
			if (q.user[len(q.user)-1]-'0')%2 == 0 {
				return hang(ctx, q)
			}
			return after(0)(ctx, q)
		}, users, 0, 2 * second, 63, 127},
		"resets that hang": {hang, each(`{"user_id":"u%d","decide":["one"],"options":["RESET_CMAB_CACHE"]}`), 0, 2 * second, 0, 1},
		"slow":             {after(200 * time.Millisecond), users, 0, 3200 * time.Millisecond, 1000, 1000},
		"very slow":        {after(1900 * time.Millisecond), users, 0, 16 * 1900 * time.Millisecond, 1000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := after(0)
				p := bubbled(t, func(ctx context.Context, q question) (string, error) { return service(ctx, q) })
				to := &store{}
				h := newBanditAssign(t, to, p)
				if c.warm > 0 {
					require.NoError(t, h.Handle(messageOf(records(c.values[:c.warm]...))))
					to.kept = nil
				}
				service = c.service
				before, began := p.Stats(), time.Now()
				require.NoError(t, h.Handle(messageOf(records(c.values...))))
				took, s := time.Since(began), p.Stats()
				if name == "few hang" {
					assert.LessOrEqual(t, took, c.takes)
				} else {
					assert.Equal(t, c.takes, took)
				}
				if name == "every other user hangs" { // which come first is chance
					assert.Less(t, s.Requests, uint64(200))
				} else {
					assert.Equal(t, c.requests, s.Requests-before.Requests)
				}
				decided := 0
				for _, o := range to.in("decisions") {
					decided += strings.Count(string(o.Value), `"variation_key":"a"`)
				}
				if name == "every other user hangs" {
					assert.Positive(t, decided)
				} else {
					assert.Equal(t, c.decided, decided)
				}
				assert.Equal(t, s.Failures, s.Budget+s.Ended+s.Network)
			})
		})
	}
}

// Who is given up isn't asked for, but its cache is invalidated all the same.
func TestGivenUpInvalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := after(0)
		p := bubbled(t, func(ctx context.Context, q question) (string, error) { return service(ctx, q) })
		to := &store{}
		h := newBanditAssign(t, to, p)
		last := `{"user_id":"last","decide":["one"]`
		require.NoError(t, h.Handle(messageOf(records(last+`}`))))
		service = hang
		var values []string
		for i := range 200 {
			values = append(values, fmt.Sprintf(`{"user_id":"u%d","decide":["one"]}`, i))
		}
		values = append(values, last+`}`, last+`,"options":["INVALIDATE_USER_CMAB_CACHE"]}`, last+`}`)
		to.kept = nil
		require.NoError(t, h.Handle(messageOf(records(values...))))
		got := to.in("decisions")[200:]
		assert.Contains(t, string(got[0].Value), `"variation_key":"a"`)
		assert.Contains(t, string(got[1].Value), `cmab_fetch_failed`)
		assert.Contains(t, string(got[2].Value), `cmab_fetch_failed`)
		assert.EqualValues(t, 1+64, p.Stats().Requests)
	})
}

// A partition that is taken away isn't waited for, and stores nothing.
func TestForesightEndsWithItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &store{}
		h := newBanditAssign(t, to, bubbled(t, hang))
		msg := messageOf(records(`{"user_id":"u"}`, `{"user_id":"v"}`))
		ctx, cancel := context.WithTimeout(msg.Context(), 300*time.Millisecond)
		defer cancel()
		msg.SetContext(ctx)
		began := time.Now()
		require.ErrorIs(t, h.Handle(msg), context.DeadlineExceeded)
		assert.Equal(t, 300*time.Millisecond, time.Since(began))
		assert.Empty(t, to.kept)
	})
}

// predictor answers at once.
type predictor func(q *decision.PredictionQuery) string

func (f predictor) Predict(ctx context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	return decision.Prediction{VariationID: f(q), UUID: PredictionID(ctx, q)}, nil
}

// A predictor that panics, which it does elsewhere, costs its record alone.
func TestPanicOfAPredictor(t *testing.T) {
	to := &store{}
	h := newBanditAssign(t, to, predictor(func(q *decision.PredictionQuery) string {
		if strings.HasPrefix(q.UserID, "boom") {
			panic("no prediction for " + q.UserID)
		}
		return q.RuleID + "a"
	}))
	b := records(`{"user_id":"a"}`, `{"user_id":"boom1"}`, `{"user_id":"b"}`, `{"user_id":"boom2"}`, `{"user_id":"boom1"}`)
	require.NoError(t, h.Handle(messageOf(b)))
	assert.Len(t, to.in("decisions"), 2)
	letters := to.in("dead-letters")
	require.Len(t, letters, 3)
	for i, at := range []int{1, 3, 4} {
		assert.Equal(t, b.Records[at].Value, letters[i].Value)
		assert.Equal(t, string(ReasonPanic), header(&letters[i], schemas.HeaderDLReason))
	}
}

// A stream that has a predictor pays nothing for it while the datafile has no bandit.
func TestNoBanditsCostNothing(t *testing.T) {
	batch := messageOf(sampleBatch(t, 200, 0))
	var costs [2]float64
	for i, env := range []*decision.Env{{}, {Predictor: predictor(func(*decision.PredictionQuery) string { panic("nobody asks") })}} {
		h := newTestAssign(t, &nowhere{}, func(c *Config) { c.Env = env })
		require.NoError(t, h.Handle(batch))
		costs[i] = testing.AllocsPerRun(20, func() {
			if err := h.Handle(batch); err != nil {
				t.Error(err)
			}
		})
	}
	assert.InDelta(t, costs[0], costs[1], 1, "allocations for 200 activities, without and with a predictor")
}

// withBandit is the sample's datafile with one more flag, which asks.
func withBandit(t testing.TB) *decision.Project {
	var file map[string]any
	require.NoError(t, json.Unmarshal(examples.Datafile(), &file))
	attribute := file["attributes"].([]any)[0].(map[string]any)["id"]
	file["experiments"] = append(file["experiments"].([]any), map[string]any{
		"id": "bandit", "key": "bandit", "layerId": "bandit", "status": "Running", "audienceIds": []any{}, "forcedVariations": map[string]any{},
		"variations": []any{map[string]any{"id": "bandit-a", "key": "a", "featureEnabled": true}}, "trafficAllocation": []any{},
		"cmab": map[string]any{"attributeIds": []any{attribute}, "trafficAllocation": 10000},
	})
	file["featureFlags"] = append(file["featureFlags"].([]any), map[string]any{
		"id": "bandit", "key": "bandit", "rolloutId": "", "experimentIds": []any{"bandit"}, "variables": []any{},
	})
	text, err := json.Marshal(file)
	require.NoError(t, err)
	p, err := decision.Compile(text)
	require.NoError(t, err)
	return p
}

// A batch of 1,000 activities of the sample, one more flag of which is a bandit whose
// predictor answers at once: what foreseeing costs beside asking where the engine asks,
// and beside no bandit at all; and with predictions that are all in the cache.
func BenchmarkForesight(b *testing.B) {
	instant := predictor(func(q *decision.PredictionQuery) string { return q.RuleID + "-a" })
	cached := predictorOf(b, func(w http.ResponseWriter, r *http.Request) {
		q, _ := read(b, r)
		answer(w, q.rule+"-a")
	}, nil)
	none, err := decision.Compile(examples.Datafile())
	require.NoError(b, err)
	for _, c := range []struct {
		name     string
		project  *decision.Project
		asks     decision.Predictor
		isSerial bool
	}{
		{"none", none, instant, false}, {"serial", withBandit(b), instant, true}, {"foreseen", withBandit(b), instant, false},
		{"cached/serial", withBandit(b), cached, true}, {"cached/foreseen", withBandit(b), cached, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig()
			cfg.Env, cfg.PredictionBudget = &decision.Env{Predictor: c.asks}, 2*time.Second
			h, err := NewAssign(cfg, AtLeastOnce(&nowhere{}), NewLatest(NewSnapshot(c.project)), nil)
			require.NoError(b, err)
			if c.isSerial {
				askSerially(h)
			}
			msg := messageOf(sampleBatch(b, 1000, 0))
			require.NoError(b, h.Handle(msg))
			b.ReportAllocs()
			for b.Loop() {
				if err := h.Handle(msg); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
