package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"sortition/decision"
)

// An engine answers cases with our engine. Its user is used again and again, as
// in the stream, so that one case leaking into the next would show.
type engine struct {
	user        decision.User
	predictions *predictions // of the case at hand
}

// profiles answers every lookup with one profile and keeps what is saved.
type profiles struct {
	stored  *decision.Profile
	saved   []*decision.Profile
	lookups int
}

func (f *profiles) Lookup(context.Context, string) (*decision.Profile, error) {
	f.lookups++
	return f.stored, nil
}

func (f *profiles) Save(_ context.Context, p *decision.Profile) error {
	f.saved = append(f.saved, p)
	return nil
}

// forced holds the variations set by the legacy call, by experiment id.
type forced map[string]string

func (f forced) ForcedVariation(_, experimentID string) (string, bool) {
	id, ok := f[experimentID]
	return id, ok
}

// predictions answers for bandits and keeps what it was asked.
type predictions struct {
	answers map[string]string
	asked   []asked
}

var errNoPrediction = errors.New("no prediction")

func (f *predictions) Predict(_ context.Context, q *decision.PredictionQuery) (decision.Prediction, error) {
	a := asked{q.RuleID, q.UserID, map[string]json.RawMessage{}}
	for _, v := range q.Attributes {
		raw := v.Value.AppendJSON(nil)
		if v.Value.Kind() == decision.KindNumber {
			if f, _ := strconv.ParseFloat(string(raw), 64); math.IsInf(f, 0) {
				// No number to the SDK; answer.py writes it so.
				raw = fmt.Appendf(nil, `{"not_finite": %q}`, strings.ToLower(strings.TrimPrefix(fmt.Sprint(f), "+")))
			}
		}
		a.Attributes[v.ID] = raw
	}
	f.asked = append(f.asked, a)
	id, ok := f.answers[q.RuleID]
	if !ok {
		return decision.Prediction{}, errNoPrediction
	}
	return decision.Prediction{VariationID: id, UUID: "prediction " + q.RuleID}, nil
}

const (
	someUUID = "00000000-0000-4000-8000-000000000000"
	someTime = 1
)

// prepare makes the case's user and surroundings.
func (e *engine) prepare(p *decision.Project, c *testCase) (*decision.Env, *profiles, decision.Options, error) {
	u := &e.user
	u.Reset(p, c.UserID)
	for _, k := range slices.Sorted(maps.Keys(c.Attributes)) {
		v, err := value(c.Attributes[k])
		if err != nil {
			return nil, nil, 0, err
		}
		u.SetAttribute(k, v)
	}
	if c.Segments != nil {
		u.SetSegments(*c.Segments)
	}
	for _, f := range c.ForcedDecisions {
		rule := ""
		if f.RuleKey != nil {
			rule = *f.RuleKey
		}
		u.SetForcedDecision(f.FlagKey, rule, f.VariationKey)
	}
	e.predictions = &predictions{answers: c.Predictions}
	env := &decision.Env{Predictor: e.predictions}
	if len(c.ForcedVariations) > 0 {
		set := forced{}
		for _, f := range c.ForcedVariations {
			experiment, hasExperiment := p.ExperimentInfo(f.ExperimentKey)
			variation, hasVariation := p.ExperimentVariationID(f.ExperimentKey, f.VariationKey)
			if hasExperiment && hasVariation {
				set[experiment.ID] = variation
			}
		}
		env.Forced = set
	}
	var service *profiles
	if c.UserProfile != nil {
		service = &profiles{}
		if stored, err := decision.ParseProfile(c.UserProfile); err == nil {
			service.stored = stored
		}
		env.Profiles = service
	}
	var options decision.Options
	for _, name := range slices.Concat(c.DefaultOptions, c.Options) {
		o, ok := decision.ParseOption(name)
		if !ok {
			return nil, nil, 0, fmt.Errorf("unknown option %s", name)
		}
		options |= o
	}
	return env, service, options, nil
}

func (e *engine) answer(p *decision.Project, c *testCase) (*answer, error) {
	env, service, options, err := e.prepare(p, c)
	if err != nil {
		return nil, err
	}
	u, ctx := &e.user, context.Background()
	var decisions []decision.Decision
	switch c.Call {
	case callOne:
		decisions = append(decisions, p.Decide(ctx, u, c.Keys[0], options, env))
	case callKeys:
		decisions = p.DecideKeys(ctx, nil, u, c.Keys, options, env)
	case callAll:
		decisions = p.DecideAll(ctx, nil, u, options, env)
	}
	a := &answer{Asked: e.predictions.asked}
	for i := range decisions {
		if d := &decisions[i]; d.IsListed() {
			a.Decisions = append(a.Decisions, decided{d.FlagKey(), orNil(d.VariationKey()), d.Enabled(), orNil(d.RuleKey()), json.RawMessage(d.VariablesJSON())})
		}
	}
	impressions := decision.AppendImpressions(nil, decisions)
	for i := range impressions {
		body := p.AppendBatchHead(nil, decision.Client{})
		body = impressions[i].AppendVisitor(body, u, someUUID, someTime)
		a.Events = append(a.Events, post(p, body))
	}
	for _, t := range c.Track {
		if conversion, ok := p.Conversion(t.EventKey, t.Tags); ok {
			body := p.AppendBatchHead(nil, decision.Client{})
			body = conversion.AppendVisitor(body, u, someUUID, someTime)
			a.Events = append(a.Events, post(p, body))
		}
	}
	if service != nil {
		if service.lookups > 1 || len(service.saved) > 1 {
			return nil, fmt.Errorf("%d lookups and %d saves in one call", service.lookups, len(service.saved))
		}
		if len(service.saved) == 1 {
			if a.Profile, err = json.Marshal(service.saved[0]); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

func post(p *decision.Project, body []byte) request {
	return request{p.EventEndpoint(), "POST", decision.AppendBatchTail(body)}
}

func orNil(s string, ok bool) *string {
	if !ok {
		return nil
	}
	return &s
}

// value makes an attribute value of what the generator made.
func value(v any) (decision.Value, error) {
	switch v := v.(type) {
	case nil:
		return decision.Null(), nil
	case bool:
		return decision.Bool(v), nil
	case string:
		return decision.String(v), nil
	case json.Number:
		return decision.Number(string(v)), nil
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return decision.Value{}, err
		}
		return decision.Composite(string(bytes.TrimSpace(raw))), nil
	}
}
