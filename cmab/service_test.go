package cmab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A reply is one scripted answer of the prediction service.
type reply struct {
	status int // default 200
	body   string
	delay  time.Duration
	isCut  bool
	wait   chan struct{} // answered when it is closed
}

func variation(id string) reply {
	return reply{body: `{"predictions":[{"variation_id":"` + id + `"}]}`}
}

// A service is a prediction service on the loopback interface that answers by a
// script, and repeats the last reply.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	script []reply
	posts  []post
}

type post struct {
	path, method, contentType string
	body                      string
	at                        time.Time
	Instances                 []struct {
		VisitorID    string           `json:"visitorId"`
		ExperimentID string           `json:"experimentId"`
		Attributes   []map[string]any `json:"attributes"`
		UUID         string           `json:"cmabUUID"`
	} `json:"instances"`
}

func serve(t *testing.T, script ...reply) *service {
	t.Helper()
	s := &service{script: script}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) take(r *http.Request, body []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := post{path: r.URL.Path, method: r.Method, contentType: r.Header.Get("Content-Type"), body: string(body), at: time.Now()}
	if err := json.Unmarshal(body, &p); err != nil {
		panic(err)
	}
	s.posts = append(s.posts, p)
	next := s.script[0]
	if len(s.script) > 1 {
		s.script = s.script[1:]
	}
	return next
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	next := s.take(r, body)
	if next.wait != nil {
		select {
		case <-next.wait:
		case <-r.Context().Done():
			return
		}
	}
	if next.delay > 0 {
		timer := time.NewTimer(next.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	if next.isCut {
		panic(http.ErrAbortHandler)
	}
	if next.status == http.StatusFound {
		w.Header().Set("Location", s.URL+"/elsewhere")
	}
	if next.status != 0 {
		w.WriteHeader(next.status)
	}
	_, _ = io.WriteString(w, next.body)
}

func (s *service) then(script ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

func (s *service) all() []post {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]post(nil), s.posts...)
}

// A program is an engine, a project with a bandit rule, and a Predictor on a
// scripted service.
type program struct {
	t       *testing.T
	project *decision.Project
	service *service
	*Predictor
	env decision.Env
}

// datafile has one flag with the bandit rule 30002 for two of three attributes,
// a whitelisted user "listed", and a delivery rule behind it.
func datafile(traffic int, attributeIDs string) []byte {
	return fmt.Appendf(nil, `{"version":"4","projectId":"880022","accountId":"1","revision":"1","groups":[],"events":[],"audiences":[],
"sendFlagDecisions":true,
"attributes":[{"id":"501","key":"tier"},{"id":"502","key":"age"},{"id":"503","key":"unlisted"}],
"experiments":[{"id":"30002","key":"reco_cmab","layerId":"40002","status":"Running","audienceIds":[],"forcedVariations":{"listed":"reco_b"},
"variations":[{"id":"50011","key":"reco_a","featureEnabled":true},{"id":"50012","key":"reco_b","featureEnabled":true}],
"trafficAllocation":[],"cmab":{"attributeIds":[%s],"trafficAllocation":%d}}],
"featureFlags":[{"id":"1","key":"reco","experimentIds":["30002"],"rolloutId":"r","variables":[]}],
"rollouts":[{"id":"r","experiments":[{"id":"60001","key":"everyone","layerId":"40003","status":"Running","audienceIds":[],"forcedVariations":{},
"variations":[{"id":"60002","key":"off"}],"trafficAllocation":[{"entityId":"60002","endOfRange":10000}]}]}]}`, attributeIDs, traffic)
}

func start(t *testing.T, change func(*Config), script ...reply) *program {
	t.Helper()
	p := &program{t: t, service: serve(t, script...)}
	var err error
	p.project, err = decision.Compile(datafile(10000, `"501","502"`))
	require.NoError(t, err)
	c := DefaultConfig()
	c.Endpoint = p.service.URL + "/predict/{}"
	if change != nil {
		change(&c)
	}
	p.Predictor, err = New(c)
	require.NoError(t, err)
	t.Cleanup(p.Predictor.Close)
	p.env.Predictor = p.Predictor
	return p
}

type values map[string]decision.Value

var gold = values{"tier": decision.String("gold"), "age": decision.Int(31)}

// decide decides the flag, and returns the uuid of its impression too.
func (p *program) decide(user string, a values, options ...decision.Options) (d decision.Decision, uuid string) {
	return p.decideWith(p.t.Context(), user, a, options...)
}

func (p *program) decideWith(ctx context.Context, user string, a values, options ...decision.Options) (d decision.Decision, uuid string) {
	var u decision.User
	u.Reset(p.project, user)
	for k, v := range a {
		u.SetAttribute(k, v)
	}
	var all decision.Options
	for _, o := range options {
		all |= o
	}
	d = p.project.Decide(ctx, &u, "reco", all, &p.env)
	impressions := decision.AppendImpressions(nil, []decision.Decision{d})
	if len(impressions) == 0 {
		return d, ""
	}
	return d, impressions[0].CMABUUID
}

// gets decides and checks the variation.
func (p *program) gets(want, user string, a values, options ...decision.Options) (uuid string) {
	p.t.Helper()
	d, uuid := p.decide(user, a, options...)
	got, _ := d.VariationKey()
	assert.Equal(p.t, want, got)
	return uuid
}

func (p *program) posted(n int) {
	p.t.Helper()
	assert.Len(p.t, p.service.all(), n, "requests")
}
