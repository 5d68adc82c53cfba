package client

import (
	"context"
	"time"

	"sortition/decision"
)

// legacy.go holds the calls that are older than Decide. They make a fresh user
// each time: no forced decisions, no segments, no decide options, not even the
// default ones. What the SDKs answer with nothing and a line in the log has an
// error here. Source: legacy-api.md sections 1 to 4.

// A legacyCall is one of these calls under way.
type legacyCall struct {
	client     *Client
	in         *installed
	w          *worker
	userID     string
	attributes map[string]any
}

func (c *Client) beginLegacy(in *installed, userID string, attributes map[string]any) *legacyCall {
	l := &legacyCall{client: c, in: in, w: c.worker(), userID: userID, attributes: attributes}
	c.NewUser(userID, attributes).state.Load().prepare(&l.w.user, in.project, userID)
	return l
}

func (l *legacyCall) end() { l.client.release(l.w) }

// decide decides a flag.
func (l *legacyCall) decide(ctx context.Context, flagKey string) *decision.Decision {
	l.w.decisions = append(l.w.decisions[:0], l.in.project.Decide(ctx, &l.w.user, flagKey, 0, &l.client.env))
	return &l.w.decisions[0]
}

// notify tells the decision's listeners.
func (l *legacyCall) notify(subtype DecisionSubtype, info func() DecisionInfo) {
	l.client.decided(func() DecisionNotification {
		attributes := l.attributes
		if attributes == nil {
			attributes = map[string]any{} // LG-4
		}
		return DecisionNotification{Type: subtype, UserID: l.userID, Attributes: attributes, Info: info()}
	})
}

// sendImpressions sends what is in w.impressions, and tells the listeners.
func (l *legacyCall) sendImpressions(ctx context.Context, d *decision.Decision) {
	events := l.w.impressionEvents(l.in, time.Now())
	if len(events) == 0 {
		return
	}
	if err := l.client.process(ctx, events); err != nil {
		l.client.eventsFailed("send impressions", err)
	}
	for i := range l.w.impressions {
		l.client.notifyActivate(&l.w.impressions[i], d, l.userID, func() map[string]any { return l.attributes }, events[i])
	}
}

// Variation returns the key of the variation that an experiment gives a user, ""
// if none, without an impression: the SDKs' get_variation. The error wraps
// [ErrNotReady], [ErrEmptyKey], [ErrExperimentNotFound] (keys of delivery rules are
// unknown) or [ErrPrediction]. Source: legacy-api.md LG-5 to LG-7, LG-P1.
func (c *Client) Variation(ctx context.Context, experimentKey, userID string, attributes map[string]any) (string, error) {
	return c.experiment(ctx, "get variation", experimentKey, userID, attributes, false)
}

// Activate is [Client.Variation] with an impression, if there is a variation.
// Source: legacy-api.md LG-8.
func (c *Client) Activate(ctx context.Context, experimentKey, userID string, attributes map[string]any) (string, error) {
	return c.experiment(ctx, "activate", experimentKey, userID, attributes, true)
}

func (c *Client) experiment(ctx context.Context, call, key, userID string, attributes map[string]any, isActivation bool) (string, error) {
	in, err := c.legacy(call, key)
	if err != nil {
		return "", err
	}
	info, ok := in.project.ExperimentInfo(key)
	if !ok {
		return "", c.legacyFault(call, key, ErrExperimentNotFound)
	}
	l := c.beginLegacy(in, userID, attributes)
	defer l.end()
	d, _ := in.project.Experiment(ctx, &l.w.user, key, 0, &c.env)
	variationKey, _ := d.VariationKey()
	subtype := DecisionABTest
	if info.IsFeature {
		subtype = DecisionFeatureTest
	}
	l.notify(subtype, func() DecisionInfo { return &ExperimentInfo{ExperimentKey: key, VariationKey: variationKey} })
	if d.Err() != decision.NoError {
		return "", c.legacyFault(call, key, ErrPrediction)
	}
	if im, ok := d.Activation(); ok && isActivation {
		l.w.impressions = append(l.w.impressions[:0], im)
		l.sendImpressions(ctx, &d)
	}
	return variationKey, nil
}

// IsFeatureEnabled tells whether a flag is on for a user, with an impression as
// Decide sends it. An unknown flag is off, silently. The error wraps [ErrNotReady]
// or [ErrEmptyKey]. Source: legacy-api.md LG-9 to LG-11, LG-P2.
func (c *Client) IsFeatureEnabled(ctx context.Context, flagKey, userID string, attributes map[string]any) (bool, error) {
	in, err := c.legacy("is feature enabled", flagKey)
	if err != nil {
		return false, err
	}
	return c.isFeatureEnabled(ctx, in, flagKey, userID, attributes), nil
}

func (c *Client) isFeatureEnabled(ctx context.Context, in *installed, flagKey, userID string, attributes map[string]any) bool {
	if !in.project.HasFlag(flagKey) {
		return false
	}
	l := c.beginLegacy(in, userID, attributes)
	defer l.end()
	d := l.decide(ctx, flagKey)
	l.w.impressions = decision.AppendImpressions(l.w.impressions[:0], l.w.decisions)
	l.sendImpressions(ctx, d)
	l.notify(DecisionFeature, func() DecisionInfo {
		info := &FeatureInfo{FeatureKey: flagKey, FeatureEnabled: d.Enabled(), Source: sourceOf(d)}
		if d.RuleType() == decision.RuleExperiment {
			info.SourceInfo = experimentInfoOf(d)
		}
		return info
	})
	return d.Enabled()
}

// EnabledFeatures lists the flags that are on for a user, in datafile order, with
// one [Client.IsFeatureEnabled] each. The error wraps [ErrNotReady].
// Source: legacy-api.md LG-12.
func (c *Client) EnabledFeatures(ctx context.Context, userID string, attributes map[string]any) ([]string, error) {
	in, err := c.legacy("get enabled features")
	if err != nil {
		return nil, err
	}
	enabled := []string{}
	for i := range in.project.NumFlags() {
		if key := in.project.FlagKey(i); c.isFeatureEnabled(ctx, in, key, userID, attributes) {
			enabled = append(enabled, key)
		}
	}
	return enabled, nil
}

// sourceOf is the source of a decision; one that failed was an experiment's.
func sourceOf(d *decision.Decision) string {
	if d.Err() != decision.NoError {
		return decision.RuleExperiment.String()
	}
	return d.RuleType().String()
}

func experimentInfoOf(d *decision.Decision) *ExperimentInfo {
	info := &ExperimentInfo{}
	info.ExperimentKey, _ = d.RuleKey()
	info.VariationKey, _ = d.VariationKey()
	return info
}

// FeatureVariable returns the value of a flag's variable for a user, whatever its
// type is, as [Variables.Get] has it, without an impression. The error wraps
// [ErrNotReady], [ErrEmptyKey], [ErrFlagNotFound], [ErrVariableNotFound],
// [ErrVariableInvalid] or, for the typed calls below, [ErrVariableType].
// Source: legacy-api.md LG-13 to LG-15.
func (c *Client) FeatureVariable(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (any, error) {
	return c.variable(ctx, flagKey, variableKey, "", userID, attributes)
}

// FeatureVariableBool is [Client.FeatureVariable] of a boolean.
func (c *Client) FeatureVariableBool(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (bool, error) {
	return variableAs[bool](c.variable(ctx, flagKey, variableKey, "boolean", userID, attributes))
}

// FeatureVariableInt is [Client.FeatureVariable] of an integer. One that doesn't fit
// is [ErrVariableInvalid].
func (c *Client) FeatureVariableInt(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (int64, error) {
	return variableAs[int64](c.variable(ctx, flagKey, variableKey, "integer", userID, attributes))
}

// FeatureVariableDouble is [Client.FeatureVariable] of a double.
func (c *Client) FeatureVariableDouble(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (float64, error) {
	return variableAs[float64](c.variable(ctx, flagKey, variableKey, "double", userID, attributes))
}

// FeatureVariableString is [Client.FeatureVariable] of a string.
func (c *Client) FeatureVariableString(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (string, error) {
	return variableAs[string](c.variable(ctx, flagKey, variableKey, "string", userID, attributes))
}

// FeatureVariableJSON is [Client.FeatureVariable] of JSON. The JSON text null is
// [ErrVariableInvalid], as it is for the SDKs.
func (c *Client) FeatureVariableJSON(ctx context.Context, flagKey, variableKey, userID string, attributes map[string]any) (any, error) {
	return c.variable(ctx, flagKey, variableKey, "json", userID, attributes)
}

func variableAs[T any](value any, err error) (T, error) {
	typed, ok := value.(T)
	if err == nil && !ok {
		err = ErrVariableInvalid // an integer beyond int64
	}
	return typed, err
}

func (c *Client) variable(ctx context.Context, flagKey, variableKey, typeName, userID string, attributes map[string]any) (any, error) {
	const call = "get feature variable"
	in, err := c.legacy(call, flagKey, variableKey)
	if err != nil {
		return nil, err
	}
	actual, err := variableType(in.project, flagKey, variableKey)
	if err == nil && typeName != "" && typeName != actual {
		err = ErrVariableType
	}
	if err != nil {
		return nil, c.legacyFault(call, flagKey+"."+variableKey, err)
	}
	l := c.beginLegacy(in, userID, attributes)
	defer l.end()
	d := l.decide(ctx, flagKey)
	value, _ := Variables{l.variablesOf(d)}.Get(variableKey)
	l.notify(DecisionFeatureVariable, func() DecisionInfo {
		info := &FeatureVariableInfo{
			FeatureKey: flagKey, FeatureEnabled: d.Enabled(), Source: sourceOf(d),
			VariableKey: variableKey, VariableValue: value, VariableType: actual,
		}
		if info.Source != decision.RuleDelivery.String() {
			info.SourceInfo = experimentInfoOf(d)
		}
		return info
	})
	if value == nil {
		return nil, c.legacyFault(call, flagKey+"."+variableKey, ErrVariableInvalid)
	}
	return value, nil
}

// variableType finds a variable. Of repeated keys the last one counts, as in the
// values.
func variableType(p *decision.Project, flagKey, variableKey string) (string, error) {
	if !p.HasFlag(flagKey) {
		return "", ErrFlagNotFound
	}
	typeName, err := "", ErrVariableNotFound
	for _, v := range p.FlagVariables(flagKey) {
		if v.Key == variableKey {
			typeName, err = v.Type, nil
		}
	}
	return typeName, err
}

// variablesOf are the variables of a decision; the flag's defaults if it failed.
func (l *legacyCall) variablesOf(d *decision.Decision) string {
	if d.Err() == decision.NoError {
		return d.VariablesJSON()
	}
	return l.in.project.FlagDefaults(d.FlagKey())
}

// AllFeatureVariables returns all variables of a flag for a user, without an
// impression. The error wraps [ErrNotReady], [ErrEmptyKey] or [ErrFlagNotFound].
// Source: legacy-api.md LG-15.
func (c *Client) AllFeatureVariables(ctx context.Context, flagKey, userID string, attributes map[string]any) (Variables, error) {
	const call = "get all feature variables"
	in, err := c.legacy(call, flagKey)
	if err != nil {
		return Variables{}, err
	}
	if !in.project.HasFlag(flagKey) {
		return Variables{}, c.legacyFault(call, flagKey, ErrFlagNotFound)
	}
	l := c.beginLegacy(in, userID, attributes)
	defer l.end()
	d := l.decide(ctx, flagKey)
	variables := Variables{l.variablesOf(d)}
	l.notify(DecisionAllFeatureVariables, func() DecisionInfo {
		info := &AllFeatureVariablesInfo{FeatureKey: flagKey, FeatureEnabled: d.Enabled(), VariableValues: variables, Source: sourceOf(d)}
		if info.Source == decision.RuleExperiment.String() {
			info.SourceInfo = experimentInfoOf(d)
		}
		return info
	})
	return variables, nil
}

// Track is [UserContext.TrackEvent] of a user made for it.
func (c *Client) Track(ctx context.Context, eventKey, userID string, attributes, tags map[string]any) error {
	return c.NewUser(userID, attributes).TrackEvent(ctx, eventKey, tags)
}
