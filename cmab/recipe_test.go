package cmab

import (
	"context"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// The fake service's tests of cmab.md section 10, by row, over real HTTP.

var version4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestRow1CacheHit(t *testing.T) {
	p := start(t, nil, variation("50012"))
	first, second := p.gets("reco_b", "u1", gold), p.gets("reco_b", "u1", gold)
	p.posted(1)
	sent := p.service.all()[0]
	assert.Equal(t, first, second)
	assert.Equal(t, sent.Instances[0].UUID, first)
	assert.Regexp(t, version4, first)

	// The request is the specification's own example.
	assert.Equal(t, `{"instances":[{"visitorId":"u1","experimentId":"30002",`+
		`"attributes":[{"id":"501","value":"gold","type":"custom_attribute"},{"id":"502","value":31,"type":"custom_attribute"}],`+
		`"cmabUUID":"`+first+`"}]}`, sent.body)
	assert.Equal(t, http.MethodPost, sent.method)
	assert.Equal(t, "application/json", sent.contentType)
	assert.Equal(t, "/predict/30002", sent.path)
	assert.Equal(t, Stats{Calls: 2, Hits: 1, Fetched: 1, Requests: 1}, p.Stats())
}

func TestRow2ListedAttributeChanges(t *testing.T) {
	p := start(t, nil, variation("50012"))
	first := p.gets("reco_b", "u1", gold)
	second := p.gets("reco_b", "u1", values{"tier": decision.String("gold"), "age": decision.Int(32)})
	third := p.gets("reco_b", "u1", gold)
	p.posted(3) // the first entry was removed by the second call
	assert.NotEqual(t, first, second)
	assert.NotEqual(t, first, third)
	// 31 and 31.0 differ (CM-12), 31 and a literal of 31 don't.
	p.gets("reco_b", "u1", values{"tier": decision.String("gold"), "age": decision.Number("31")})
	p.posted(3)
	p.gets("reco_b", "u1", values{"tier": decision.String("gold"), "age": decision.Number("31.0")})
	p.posted(4)
}

func TestRow3UnlistedAttributeChanges(t *testing.T) {
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "u1", gold)
	p.gets("reco_b", "u1", values{"age": decision.Int(31), "unlisted": decision.Bool(true), "tier": decision.String("gold")})
	p.posted(1)
}

func TestRow4NoAttributes(t *testing.T) {
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "u1", values{"unlisted": decision.Int(1)})
	assert.Contains(t, p.service.all()[0].body, `"attributes":[],`)
}

func TestRow5IgnoreCache(t *testing.T) {
	p := start(t, nil, variation("50011"), variation("50012"))
	p.gets("reco_a", "u1", gold, decision.IgnoreCMABCache)
	p.gets("reco_b", "u1", gold)
	p.posted(2) // not stored
	p.service.then(variation("50011"))
	p.gets("reco_a", "u1", gold, decision.IgnoreCMABCache, decision.ResetCMABCache, decision.InvalidateUserCMABCache)
	p.gets("reco_b", "u1", gold)
	p.posted(3) // nor was anything read, replaced, reset or invalidated
}

func TestRow6Reset(t *testing.T) {
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "u1", gold)
	p.gets("reco_b", "u2", gold)
	p.gets("reco_b", "u1", gold, decision.ResetCMABCache)
	p.posted(3)
	p.gets("reco_b", "u2", gold)
	p.posted(4)
	p.gets("reco_b", "u1", gold)
	p.posted(4)
}

func TestRow7Invalidate(t *testing.T) {
	p := start(t, nil, variation("50012"))
	p.gets("reco_b", "u1", gold)
	p.gets("reco_b", "u2", gold)
	p.gets("reco_b", "u1", gold, decision.InvalidateUserCMABCache)
	p.posted(3)
	p.gets("reco_b", "u2", gold)
	p.posted(3)
}

func TestRow8RetrySucceeds(t *testing.T) {
	p := start(t, nil, reply{status: 500}, variation("50012"))
	uuid := p.gets("reco_b", "u1", gold)
	posts := p.service.all()
	require.Len(t, posts, 2)
	assert.GreaterOrEqual(t, posts[1].at.Sub(posts[0].at), 100*time.Millisecond)
	assert.Equal(t, posts[0].body, posts[1].body, "the same bytes, so the same uuid: CM-8")
	assert.Equal(t, uuid, posts[0].Instances[0].UUID)
	assert.Equal(t, Stats{Calls: 1, Fetched: 1, Requests: 2, Retries: 1}, p.Stats())
}

func TestRow9Failure(t *testing.T) {
	p := start(t, nil, reply{status: 500})
	d, _ := p.decide("u1", gold)
	p.posted(2)
	assert.Equal(t, decision.CMABFetchFailed, d.Err())
	assert.Equal(t, "cmab_fetch_failed", d.Err().String(), "CM-P8")
	_, hasVariation := d.VariationKey()
	assert.False(t, hasVariation)
	assert.False(t, d.IsDispatched())
	assert.Empty(t, decision.AppendImpressions(nil, []decision.Decision{d}))
	p.service.then(variation("50012"))
	p.gets("reco_b", "u1", gold)
	p.posted(3) // the failure was not cached
	assert.Equal(t, Stats{Calls: 2, Fetched: 1, Failures: 1, BadStatus: 1, Requests: 3, Retries: 1}, p.Stats())
}

func TestRow10UnknownVariation(t *testing.T) {
	p := start(t, nil, variation("999"))
	uuid := p.gets("off", "u1", gold)
	assert.Empty(t, uuid, "the delivery rule's impression has none")
	p.gets("off", "u1", gold)
	p.posted(2) // CM-P1: not cached
	assert.Equal(t, uint64(2), p.Stats().Unknown)
}

func TestRow11NoTraffic(t *testing.T) {
	p := start(t, nil, variation("50012"))
	var err error
	p.project, err = decision.Compile(datafile(0, `"501"`))
	require.NoError(t, err)
	p.gets("off", "u1", gold)
	p.posted(0)
}

func TestRow12Whitelisted(t *testing.T) {
	p := start(t, nil, variation("50011"))
	assert.Empty(t, p.gets("reco_b", "listed", gold))
	p.posted(0)
}

func TestRow13ParallelDecides(t *testing.T) {
	hold := make(chan struct{})
	held := variation("50012")
	held.wait = hold
	p := start(t, nil, held)
	const callers = 20
	uuids := make([]string, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { uuids[i] = p.gets("reco_b", "u1", gold) })
	}
	until(t, func() bool { return p.Stats().Calls == callers && p.Stats().Requests == 1 })
	close(hold)
	all.Wait()
	p.posted(1)
	for _, u := range uuids {
		assert.Equal(t, uuids[0], u)
	}
	s := p.Stats()
	assert.Equal(t, uint64(1), s.Fetched)
	assert.Equal(t, uint64(callers-1), s.Hits+s.Shared)
}

// profiles is a profile service that notes what is saved.
type profiles struct {
	mu    sync.Mutex
	found *decision.Profile
	saved int
}

func (s *profiles) Lookup(context.Context, string) (*decision.Profile, error) { return s.found, nil }
func (s *profiles) Save(context.Context, *decision.Profile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved++
	return nil
}

func TestRow14ProfileService(t *testing.T) {
	p := start(t, nil, variation("50012"))
	sticky := &profiles{}
	p.env.Profiles = sticky
	p.gets("reco_b", "u1", gold)
	assert.Zero(t, sticky.saved)
	sticky.found = &decision.Profile{UserID: "u2", Entries: map[string]decision.ProfileEntry{"30002": {VariationID: "50011"}}}
	assert.Empty(t, p.gets("reco_a", "u2", gold), "an entry of an older client wins, without a request: CM-3")
	p.posted(1)
}

// The table of section 5, over real HTTP.
func TestReplies(t *testing.T) {
	prediction := func(value string) string { return `{"predictions":[{"variation_id":` + value + `}]}` }
	const invalid, failed = "invalid", "failed"
	for name, c := range map[string]struct {
		reply reply
		want  string // variation id, or one of the above
		posts int
	}{
		"text":                    {reply{body: prediction(`"50012"`)}, "50012", 1},
		"number":                  {reply{body: prediction(`50012`)}, "50012", 1},
		"two predictions":         {reply{body: `{"predictions":[{"variation_id":"50011"},{"variation_id":"50012"}]}`}, "50011", 1},
		"other members":           {reply{body: ` {"x":1,"predictions":[{"y":[],"variation_id":"50012"}, 7]} `}, "50012", 1},
		"201":                     {reply{status: 201, body: prediction(`"50012"`)}, "50012", 1},
		"299":                     {reply{status: 299, body: prediction(`"50012"`)}, "50012", 1},
		"boolean":                 {reply{body: prediction(`true`)}, "true", 1},
		"null":                    {reply{body: prediction(`null`)}, invalid, 1},
		"empty id":                {reply{body: prediction(`""`)}, invalid, 1},
		"empty object":            {reply{body: `{}`}, invalid, 1},
		"array":                   {reply{body: `[]`}, invalid, 1},
		"null reply":              {reply{body: `null`}, invalid, 1},
		"predictions null":        {reply{body: `{"predictions":null}`}, invalid, 1},
		"predictions empty":       {reply{body: `{"predictions":[]}`}, invalid, 1},
		"predictions an object":   {reply{body: `{"predictions":{}}`}, invalid, 1},
		"prediction null":         {reply{body: `{"predictions":[null]}`}, invalid, 1},
		"prediction a text":       {reply{body: `{"predictions":["50012"]}`}, invalid, 1},
		"no variation_id":         {reply{body: `{"predictions":[{}]}`}, invalid, 1},
		"name in another case":    {reply{body: `{"predictions":[{"Variation_ID":"50012"}]}`}, invalid, 1},
		"not JSON":                {reply{body: `50012 is it`}, invalid, 1},
		"more than one value":     {reply{body: prediction(`"50012"`) + `{}`}, invalid, 1},
		"empty body":              {reply{}, invalid, 1},
		"204":                     {reply{status: 204}, invalid, 1},
		"huge":                    {reply{body: `{"x":"` + string(make([]byte, maxReply)) + `"}`}, invalid, 1},
		"302":                     {reply{status: 302}, failed, 1},
		"304":                     {reply{status: 304}, failed, 1},
		"400":                     {reply{status: 400}, failed, 1},
		"404":                     {reply{status: 404, body: prediction(`"50012"`)}, failed, 1},
		"429":                     {reply{status: 429}, failed, 2},
		"500":                     {reply{status: 500, body: prediction(`"50012"`)}, failed, 2},
		"503":                     {reply{status: 503}, failed, 2},
		"connection closed":       {reply{isCut: true}, failed, 2},
		"slower than the attempt": {reply{delay: time.Minute}, failed, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, func(c *Config) {
				c.InitialBackoff = time.Millisecond
				if name == "slower than the attempt" {
					c.AttemptTimeout = 50 * time.Millisecond
				}
			}, c.reply)
			answer, err := p.ask(t, "u1", gold)
			switch c.want {
			case invalid:
				require.ErrorIs(t, err, ErrInvalidReply)
			case failed:
				require.Error(t, err)
				require.NotErrorIs(t, err, ErrInvalidReply)
				if status := (*StatusError)(nil); c.reply.status != 0 && assert.ErrorAs(t, err, &status) {
					assert.Equal(t, c.reply.status, status.Code)
				}
			default:
				require.NoError(t, err)
				assert.Equal(t, c.want, answer.VariationID)
				assert.Regexp(t, version4, answer.UUID)
			}
			p.posted(c.posts)
			if err != nil {
				assert.Contains(t, err.Error(), "fetch prediction for rule 30002")
				assert.NotContains(t, err.Error(), "gold")
				assert.NotContains(t, err.Error(), p.service.URL)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		p := start(t, func(c *Config) { c.InitialBackoff = time.Millisecond }, reply{})
		p.service.Close()
		_, err := p.ask(t, "u1", gold)
		require.Error(t, err)
		assert.Equal(t, uint64(2), p.Stats().Requests)
	})
}

// ask calls the Predictor with the query that the engine makes.
func (p *program) ask(t *testing.T, user string, a values) (decision.Prediction, error) {
	t.Helper()
	var spy spy
	spy.Predictor = p.Predictor
	p.env.Predictor = &spy
	p.decide(user, a)
	p.env.Predictor = p.Predictor
	return spy.answer, spy.err
}

type spy struct {
	decision.Predictor
	answer decision.Prediction
	err    error
}

func (s *spy) Predict(ctx context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	s.answer, s.err = s.Predictor.Predict(ctx, q)
	return s.answer, s.err
}

// until waits for something to become true, without a fixed pause.
func until(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still waiting")
		}
	}
}
