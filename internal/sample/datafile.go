package sample

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Datafile returns a version 4 datafile with the given number of flags, shaped as
// large accounts' are: one to three experiments a flag, a rollout with up to
// three deliveries before everyone else, up to four variables, audiences shared
// between the rules, one flag in twenty-five with its experiments in an exclusive
// group, a global holdout and some local ones. Its attributes, events and
// segments are those of the activities, so that the visitors of a Generator meet
// its audiences.
//
// A flag takes about 2.3 kB. Equal seeds and counts give equal bytes.
func Datafile(seed uint64, flags int) []byte {
	m := maker{rand: seeded(seed, 2, uint64(flags)), lastID: 30_000_000_000}
	m.project = project{
		Version: "4", AccountID: "20410000017", ProjectID: "20420000099",
		Revision: strconv.Itoa(flags), SDKKey: "SampleKey" + strconv.Itoa(flags), EnvironmentKey: "production",
		SendFlagDecisions: true, AnonymizeIP: true,
		Audiences: []audience{}, Groups: []group{}, Experiments: []rule{},
		FeatureFlags: []featureFlag{}, Rollouts: []rollout{}, LocalHoldouts: []holdout{},
		Integrations: []integration{{Key: "odp", Host: "https://odp.shop.example", PublicKey: "sample-public-key"}},
	}
	for _, key := range attributeKeys {
		m.project.Attributes = append(m.project.Attributes, named{m.id(), key})
	}
	m.addAudiences(8 + min(flags/20, 400))
	for i := range flags {
		m.addFlag(i)
	}
	m.addEvents()
	m.project.Holdouts = []holdout{m.holdout("quarter_holdout", 200)}
	for i := 0; i < len(m.project.Experiments); i += 100 {
		h := m.holdout("holdout_"+strconv.Itoa(i), 300)
		h.IncludedRules = []string{m.project.Experiments[i].ID}
		m.project.LocalHoldouts = append(m.project.LocalHoldouts, h)
	}
	out, err := json.Marshal(&m.project)
	if err != nil {
		panic(fmt.Sprintf("BUG: sample: datafile: %v", err))
	}
	return out
}

var (
	attributeKeys = []string{
		"country", "plan", "age", "device", "app_version", "logged_in", "cart_value",
		"days_since_signup", "beta_tester", "email_domain",
	}
	areas    = []string{"checkout", "search", "product", "cart", "account", "mail", "home", "price", "app", "support"}
	features = []string{"layout", "banner", "ranking", "button", "filter", "badge", "reminder", "model", "gallery", "limit"}
	arms     = []string{"control", "treatment", "treatment_b", "treatment_c"}
)

// maker holds a datafile in the making. Ids are handed out in sequence and are
// unique over all kinds of entities.
type maker struct {
	rand    random
	project project
	lastID  uint64
}

func (m *maker) id() string {
	m.lastID++
	return strconv.FormatUint(m.lastID, 10)
}

func (m *maker) addFlag(number int) {
	r := &m.rand
	key := fmt.Sprintf("%s_%s_%d", pick(r, areas), pick(r, features), number)
	flag := featureFlag{named: named{m.id(), key}, ExperimentIDs: []string{}, Variables: m.variables()}
	var experiments []rule
	count := 1
	for count < 3 && r.chance(350) {
		count++
	}
	for i := range count {
		e := m.experiment(fmt.Sprintf("%s_test_%d", key, i+1), flag.Variables)
		flag.ExperimentIDs = append(flag.ExperimentIDs, e.ID)
		experiments = append(experiments, e)
	}
	if number%25 == 24 {
		m.project.Groups = append(m.project.Groups, m.group(experiments))
	} else {
		m.project.Experiments = append(m.project.Experiments, experiments...)
	}
	out := rollout{ID: m.id()}
	for i := range r.below(4) {
		d := m.delivery(fmt.Sprintf("%s_delivery_%d", key, i+1), flag.Variables, true)
		m.target(&d)
		out.Experiments = append(out.Experiments, d)
	}
	out.Experiments = append(out.Experiments, m.delivery("default-rollout-"+out.ID, flag.Variables, r.chance(500)))
	m.project.Rollouts = append(m.project.Rollouts, out)
	flag.RolloutID = out.ID
	m.project.FeatureFlags = append(m.project.FeatureFlags, flag)
}

func (m *maker) experiment(key string, variables []variable) rule {
	r := &m.rand
	e := rule{
		named: named{m.id(), key}, Status: "Running", LayerID: m.id(), Type: "ab",
		AudienceIDs: []string{}, ForcedVariations: map[string]string{},
	}
	if r.chance(80) {
		e.Status = "Paused"
	}
	if r.chance(30) {
		e.ForcedVariations["qa-robot-1"] = arms[1]
	}
	if r.chance(600) {
		m.target(&e)
	}
	count := int(r.between(2, int64(len(arms))))
	reach := int(pick(r, []int64{10000, 10000, 8000, 5000, 2000}))
	for i := range count {
		v := m.variation(arms[i], true, variables)
		e.Variations = append(e.Variations, v)
		e.TrafficAllocation = append(e.TrafficAllocation, slice{v.ID, reach * (i + 1) / count})
	}
	return e
}

func (m *maker) delivery(key string, variables []variable, enabled bool) rule {
	d := rule{
		named: named{m.id(), key}, Status: "Running", LayerID: m.id(),
		AudienceIDs: []string{}, ForcedVariations: map[string]string{},
	}
	name := "on"
	if !enabled {
		name = "off"
	}
	v := m.variation(name, enabled, variables)
	d.Variations = []variation{v}
	d.TrafficAllocation = []slice{{v.ID, pick(&m.rand, []int{10000, 10000, 5000, 1000})}}
	return d
}

// target gives the rule audiences: one or two, or a small tree of them.
func (m *maker) target(e *rule) {
	r := &m.rand
	one := func() string { return pick(r, m.project.TypedAudiences).ID }
	a, b := one(), one()
	switch r.below(4) {
	case 0:
		e.AudienceIDs = []string{a, b}
	case 1:
		e.AudienceIDs = []string{a, b}
		e.AudienceConditions = []any{"and", a, []any{"not", b}}
	default:
		e.AudienceIDs = []string{a}
	}
}

// variation overrides about half of the variables if it is enabled.
func (m *maker) variation(key string, enabled bool, variables []variable) variation {
	v := variation{named: named{m.id(), key}, FeatureEnabled: enabled, Variables: []usage{}}
	for _, d := range variables {
		if enabled && m.rand.chance(500) {
			v.Variables = append(v.Variables, usage{d.ID, m.value(d)})
		}
	}
	return v
}

func (m *maker) variables() []variable {
	out := []variable{}
	for i := range m.rand.below(5) {
		v := variable{named: named{ID: m.id(), Key: fmt.Sprintf("%s_%d", pick(&m.rand, features), i)}}
		v.Type = pick(&m.rand, []string{"boolean", "integer", "double", "string", "json"})
		if v.Type == "json" {
			v.Type, v.SubType = "string", "json"
		}
		v.DefaultValue = m.value(v)
		out = append(out, v)
	}
	return out
}

func (m *maker) value(v variable) string {
	r := &m.rand
	switch {
	case v.SubType == "json":
		return fmt.Sprintf(`{"columns":%d,"order":["%s","%s"],"wide":%t}`, r.between(1, 6), pick(r, categories), pick(r, categories), r.chance(500))
	case v.Type == "boolean":
		return strconv.FormatBool(r.chance(500))
	case v.Type == "integer":
		return strconv.FormatInt(r.between(0, 500), 10)
	case v.Type == "double":
		return fmt.Sprintf("%d.%02d", r.below(100), r.below(100))
	default:
		return pick(r, categories) + " " + pick(r, features)
	}
}

// group divides most of the traffic among its experiments.
func (m *maker) group(experiments []rule) group {
	g := group{ID: m.id(), Policy: "random", Experiments: experiments}
	for i := range experiments {
		g.TrafficAllocation = append(g.TrafficAllocation, slice{experiments[i].ID, 9000 * (i + 1) / len(experiments)})
	}
	return g
}

func (m *maker) holdout(key string, reach int) holdout {
	v := m.variation("off", false, nil)
	return holdout{
		named: named{m.id(), key}, Status: "Running", AudienceIDs: []string{},
		Variations: []variation{v}, TrafficAllocation: []slice{{v.ID, reach}},
	}
}

// addEvents declares the activities' events, each attached to some experiments.
func (m *maker) addEvents() {
	for i, key := range []string{"purchase", "add_to_cart", "signup"} {
		e := event{named: named{m.id(), key}, ExperimentIDs: []string{}}
		for j := i; j < len(m.project.Experiments); j += 5 {
			e.ExperimentIDs = append(e.ExperimentIDs, m.project.Experiments[j].ID)
		}
		m.project.Events = append(m.project.Events, e)
	}
}
