package decision

import (
	"encoding/json"
	"strings"
)

// A Config is the structured view of a datafile that SDKs hand out as
// OptimizelyConfig. It is read-only. Source: legacy-api.md section 6.
type Config struct {
	Revision       string                      `json:"revision"`
	SDKKey         string                      `json:"sdk_key"`
	EnvironmentKey string                      `json:"environment_key"`
	Experiments    map[string]ConfigExperiment `json:"experiments_map"` // by key: plain and group experiments
	Features       map[string]ConfigFeature    `json:"features_map"`    // by key
	Attributes     []ConfigAttribute           `json:"attributes"`
	Events         []ConfigEvent               `json:"events"`
	Audiences      []ConfigAudience            `json:"audiences"`
	Datafile       string                      `json:"-"` // the original text
}

// A ConfigExperiment is an experiment or delivery rule.
type ConfigExperiment struct {
	ID         string                     `json:"id"`
	Key        string                     `json:"key"`
	Audiences  string                     `json:"audiences"` // the audience conditions as text
	Variations map[string]ConfigVariation `json:"variations_map"`
}

// A ConfigVariation is a variation with the variables it gives.
type ConfigVariation struct {
	ID             string                    `json:"id"`
	Key            string                    `json:"key"`
	FeatureEnabled *bool                     `json:"feature_enabled"` // nil: the datafile doesn't say
	Variables      map[string]ConfigVariable `json:"variables_map"`
}

// A ConfigVariable is a variable with its value as text.
type ConfigVariable struct {
	ID    string `json:"id"`
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// A ConfigFeature is a flag.
type ConfigFeature struct {
	ID              string                      `json:"id"`
	Key             string                      `json:"key"`
	Experiments     map[string]ConfigExperiment `json:"experiments_map"`
	Variables       map[string]ConfigVariable   `json:"variables_map"` // defaults
	ExperimentRules []ConfigExperiment          `json:"experiment_rules"`
	DeliveryRules   []ConfigExperiment          `json:"delivery_rules"`
}

// A ConfigAttribute is a declared attribute.
type ConfigAttribute struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

// A ConfigEvent is an event that can be tracked.
type ConfigEvent struct {
	ID            string   `json:"id"`
	Key           string   `json:"key"`
	ExperimentIDs []string `json:"experiment_ids"`
}

// A ConfigAudience is an audience with its conditions as JSON text.
type ConfigAudience struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Conditions string `json:"conditions"`
}

// Config returns the structured view. It is made on the first call, from the
// datafile, and is the same object from then on. Source: legacy-api.md LG-17.
func (p *Project) Config() *Config { return p.config() }

func makeConfig(raw []byte, meta meta) *Config {
	r := &reader{}
	root, _ := r.root(raw)
	c := &compiler{
		reader: r, w: r.file(root), emptySlot: none, p: &Project{},
		slotByKey: map[string]uint32{}, segmentByName: map[string]uint32{}, flagByKey: map[string]uint32{},
	}
	c.indexRules()
	flags := c.uniqueFlags()
	c.injectFeatureRollouts(flags)
	v := viewer{c: c, names: map[string]string{}}
	out := &Config{
		Revision: meta.revision, SDKKey: meta.sdkKey, EnvironmentKey: meta.environmentKey, Datafile: string(raw),
		Experiments: map[string]ConfigExperiment{}, Features: map[string]ConfigFeature{},
		Attributes: []ConfigAttribute{}, Events: []ConfigEvent{}, Audiences: v.audiences(),
	}
	for _, a := range c.w.attributes {
		out.Attributes = append(out.Attributes, ConfigAttribute{a.id, a.key})
	}
	for _, e := range c.w.events {
		out.Events = append(out.Events, ConfigEvent{e.id, e.key, e.experimentIDs})
	}

	firstFlag := map[string]*wireFlag{} // experiment id to the first flag that lists it
	for _, f := range flags {
		for _, id := range f.experimentIDs {
			if firstFlag[id] == nil {
				firstFlag[id] = f
			}
		}
	}
	c.eachExperiment(func(w *wireRule) {
		out.Experiments[w.key] = v.rule(w, firstFlag[w.id])
	})
	for _, f := range flags {
		feature := ConfigFeature{
			ID: f.id, Key: f.key, Experiments: map[string]ConfigExperiment{}, Variables: variablesOf(f, false, nil),
			ExperimentRules: []ConfigExperiment{}, DeliveryRules: []ConfigExperiment{},
		}
		for _, id := range f.experimentIDs {
			e := v.rule(c.experiments[id], f)
			feature.ExperimentRules = append(feature.ExperimentRules, e)
			feature.Experiments[e.Key] = e
		}
		if ro := c.rollouts[f.rolloutID]; ro != nil {
			for _, d := range ro.rules {
				feature.DeliveryRules = append(feature.DeliveryRules, v.rule(d, f))
			}
		}
		out.Features[f.key] = feature
	}
	return out
}

// eachExperiment calls f for plain and group experiments, the content that
// counts for each id. Source: datafile.md DF-P9.
func (c *compiler) eachExperiment(f func(*wireRule)) {
	visit := func(w *wireRule) {
		if c.experiments[w.id] == w {
			f(w)
		}
	}
	for _, w := range c.w.experiments {
		visit(w)
	}
	for i := range c.w.groups {
		for _, w := range c.w.groups[i].experiments {
			visit(w)
		}
	}
}

// A viewer renders rules for a Config.
type viewer struct {
	c     *compiler
	names map[string]string // audience id to name
}

// audiences lists typed audiences, then legacy ones that aren't replaced or the
// dummy. Source: legacy-api.md LG-21.
func (v *viewer) audiences() []ConfigAudience {
	out := []ConfigAudience{}
	typed := map[string]bool{}
	for _, a := range v.c.w.audiences {
		v.names[a.id] = a.name
	}
	for _, a := range v.c.w.typed {
		typed[a.id] = true
		v.names[a.id] = a.name
		text, err := json.Marshal(a.conditions)
		if err != nil {
			panic("BUG: conditions of a parsed datafile: " + err.Error())
		}
		out = append(out, ConfigAudience{a.id, a.name, string(text)})
	}
	for _, a := range v.c.w.audiences {
		if !typed[a.id] && a.id != "$opt_dummy_audience" {
			out = append(out, ConfigAudience{a.id, a.name, a.text})
		}
	}
	return out
}

func (v *viewer) rule(w *wireRule, f *wireFlag) ConfigExperiment {
	e := ConfigExperiment{ID: w.id, Key: w.key, Variations: map[string]ConfigVariation{}}
	if w.hasTree && w.conditions != nil {
		e.Audiences = v.audienceText(w.conditions, false)
	}
	for _, x := range w.variations {
		out := ConfigVariation{ID: x.id, Key: x.key, Variables: map[string]ConfigVariable{}}
		if x.hasEnabled {
			out.FeatureEnabled = &x.enabled
		}
		if f != nil {
			out.Variables = variablesOf(f, x.enabled, x.usages)
		}
		e.Variations[x.key] = out
	}
	return e
}

// variablesOf gives every variable of a flag the text it has in a variation.
// Source: legacy-api.md LG-19, LG-20, LG-P4.
func variablesOf(f *wireFlag, isEnabled bool, usages map[string]string) map[string]ConfigVariable {
	out := make(map[string]ConfigVariable, len(f.variables))
	for _, v := range f.variables {
		value := v.fallback
		if usage, ok := usages[v.id]; ok && isEnabled {
			value = usage
		}
		out[v.key] = ConfigVariable{v.id, v.key, variableNames[v.kind], value}
	}
	return out
}

// audienceText renders audience conditions: names in quotes, operators in upper
// case, nested arrays in parentheses. Source: legacy-api.md section 6, LG-P5.
func (v *viewer) audienceText(tree any, isNested bool) string {
	list, ok := tree.([]any)
	if !ok {
		id, _ := tree.(string)
		if name, ok := v.names[id]; ok {
			id = name
		}
		return `"` + id + `"`
	}
	op := "OR"
	if len(list) > 0 {
		switch list[0] {
		case "and", "or", "not":
			op, list = strings.ToUpper(list[0].(string)), list[1:] //nolint:errcheck // the case says it is a string
		}
	}
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = v.audienceText(x, true)
	}
	text := strings.Join(parts, " "+op+" ")
	if op == "NOT" && len(parts) > 0 {
		text = "NOT " + parts[0]
	}
	if isNested && text != "" {
		return "(" + text + ")"
	}
	return text
}
