package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sortition/decision"
)

// An engine answers cases with our engine. Its user is used again and again, as
// in the stream, so that one case leaking into the next would show.
type engine struct {
	user decision.User
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
	env := &decision.Env{}
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
	for _, name := range c.Options {
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
	a := &answer{}
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
