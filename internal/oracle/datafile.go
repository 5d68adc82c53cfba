package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

// A project is a generated datafile and what a case must know to touch it.
type project struct {
	datafile    string
	flags       []feature
	experiments []experiment
	attributes  []string         // keys that conditions or the datafile name
	wanted      map[string][]any // by attribute: values that conditions compare with
	events      []string
	listed      []string // user ids on whitelists
}

type feature struct {
	key        string
	ruleKeys   []string
	variations []string // keys
}

type experiment struct {
	id, key    string
	variations []variation
	lent       []variation // from the rollouts of its flags (DF-15)
	isBandit   bool
}

type variation struct{ id, key string }

// A builder makes one project.
type builder struct {
	random
	next        int // of the ids
	project     project
	audienceIDs []string
	attributes  []any
	audiences   []any
	typed       []any
	groups      []*group
	experiments []any // those of no group
	rollouts    []any
	rollout     map[string]object
	rules       map[string]object // experiments by id, as they stand in the datafile
	ruleIDs     []string          // of delivery rules as well
	rolloutIDs  []string
	pool        []any // variations that the rules of a flag share; nil: each rule has its own
}

type group struct {
	object      object
	experiments []any
	ids         []string
}

// generate makes a project. Source: datafile.md sections 3 and 4; what isn't
// made, and why, stands with each part.
func generate(r random) (*project, error) {
	b := &builder{random: r, next: r.between(10, 90000), rollout: map[string]object{}, rules: map[string]object{}}
	b.project.wanted = map[string][]any{}
	b.makeAttributes()
	b.makeAudiences()
	for range b.IntN(3) {
		policy := pick(r, []string{"random", "random", "random", "overlapping", "Random"})
		b.groups = append(b.groups, &group{object: object{"id": b.id(), "policy": policy}, experiments: []any{}})
	}
	n := b.between(1, 6)
	if b.chance(4) {
		n = b.between(15, 30)
	}
	flags := []any{}
	for i := range n {
		flags = append(flags, b.makeFlag(i))
	}
	b.lend(flags)
	d := object{
		"version": pick(r, []string{"4", "4", "4", "4", "3", "2"}), "accountId": b.id(), "projectId": b.id(), "revision": pick(r, []string{"1", "42", "é", ""}),
		"attributes": b.attributes, "audiences": b.audiences, "typedAudiences": b.typed, "groups": b.makeGroups(),
		"experiments": b.orEmpty(b.experiments), "rollouts": b.orEmpty(b.rollouts), "featureFlags": flags, "events": b.makeEvents(),
	}
	if holdouts := b.makeHoldouts(); b.chance(45) {
		d["holdouts"] = holdouts
	}
	if holdouts := b.makeLocalHoldouts(); b.chance(40) {
		d["localHoldouts"] = holdouts
	}
	b.maybe(d, 60, "sendFlagDecisions", true, false)
	b.maybe(d, 60, "botFiltering", true, false, nil)
	b.maybe(d, 60, "anonymizeIP", true, false)
	b.maybe(d, 50, "region", "US", "EU", "eu", "AP", "", nil)
	b.maybe(d, 20, "sdkKey", "key")
	b.maybe(d, 10, "unknownField", object{"a": []any{nil}})
	if b.chance(4) { // as of the time before flags
		for _, name := range []string{"featureFlags", "rollouts", "typedAudiences", "holdouts", "localHoldouts"} {
			delete(d, name)
		}
		b.project.flags = nil
		for i := range b.project.experiments {
			b.project.experiments[i].lent = nil
		}
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode a generated datafile: %w", err)
	}
	b.project.datafile = string(raw)
	if b.chance(15) {
		b.project.datafile = b.repeatKeys(b.project.datafile)
	}
	return &b.project, nil
}

// lend notes the variations that feature rollouts take from everyone-else rules
// (DF-14), and puts some on the whitelists of those who take them.
func (b *builder) lend(flags []any) {
	for _, f := range flags {
		rollout, ok := b.rollout[f.(object)["rolloutId"].(string)]
		if !ok || len(rollout["experiments"].([]any)) == 0 {
			continue
		}
		rules := rollout["experiments"].([]any)
		everyone := rules[len(rules)-1].(object)["variations"].([]any)[0].(object)
		for _, id := range f.(object)["experimentIds"].([]any) {
			e := b.rules[id.(string)]
			if e["type"] != "fr" {
				continue
			}
			i := slices.IndexFunc(b.project.experiments, func(e experiment) bool { return e.id == id })
			known := &b.project.experiments[i]
			known.lent = append(known.lent, variation{everyone["id"].(string), everyone["key"].(string)})
			list := e["forcedVariations"].(object)
			for _, user := range slices.Sorted(maps.Keys(list)) {
				if b.chance(40) {
					list[user] = everyone["key"]
				}
			}
		}
	}
}

// repeatKeys puts a key twice into some of the objects; the last one counts
// (DF-2).
func (b *builder) repeatKeys(datafile string) string {
	return firstKey.ReplaceAllStringFunc(datafile, func(opening string) string {
		if !b.chance(10) {
			return opening
		}
		return opening + pick(b.random, []string{`"twice"`, "null", "[]", "7", `{"id":"twice"}`}) + "," + opening[1:]
	})
}

// firstKey matches the brace of an object with its first key. In a text, the quote
// would have a backslash before it.
var firstKey = regexp.MustCompile(`\{"(?:[^"\\]|\\.)*":`)

// maybe sets a field to one of the values in percent of 100 cases.
func (b *builder) maybe(o object, percent int, name string, values ...any) {
	if b.chance(percent) {
		o[name] = pick(b.random, values)
	}
}

func (b *builder) orEmpty(l []any) []any { return append([]any{}, l...) }

// id is an id used nowhere else: P 8, 9, 11 and 13 are about ids used twice.
func (b *builder) id() string {
	b.next += b.between(1, 9)
	id := strconv.Itoa(b.next)
	if b.chance(3) {
		return "default-" + id
	}
	return id
}

// key is a key used nowhere else: DF-P11 is about keys used twice.
func (b *builder) key(kind string) string {
	b.next++
	key := kind + strconv.Itoa(b.next)
	if b.chance(10) {
		key += pick(b.random, awkward)
	}
	return key
}

func (b *builder) makeAttributes() {
	b.attributes = []any{}
	for i := range b.between(1, 6) {
		key := "attr" + strconv.Itoa(i)
		if b.chance(10) {
			key += pick(b.random, awkward)
		}
		b.project.attributes = append(b.project.attributes, key)
		b.attributes = append(b.attributes, object{"id": b.id(), "key": key})
		if b.chance(4) { // the last counts
			b.attributes = append(b.attributes, object{"id": b.id(), "key": key})
		}
	}
	if b.chance(10) {
		b.attributes = append(b.attributes, object{"id": b.id(), "key": "$opt_declared"})
	}
	b.project.attributes = append(b.project.attributes, "undeclared")
}

func (b *builder) makeEvents() []any {
	events := []any{}
	for i := range b.IntN(4) {
		key := "event" + strconv.Itoa(i)
		if b.chance(10) {
			key += pick(b.random, awkward)
		}
		b.project.events = append(b.project.events, key)
		for range 1 + b.IntN(21)/20 { // the last of a key counts
			events = append(events, object{"id": b.id(), "key": key, "experimentIds": []any{}})
		}
	}
	return events
}

// makeFlag makes a flag with its rules. A flag key used twice is left out
// (DF-P13), and so is a rollout that doesn't exist (DF-P2).
func (b *builder) makeFlag(i int) object {
	f := feature{key: "flag" + strconv.Itoa(i)}
	if b.chance(10) {
		f.key += pick(b.random, awkward)
	}
	variables := b.makeVariables()
	b.pool = nil
	if b.chance(30) { // as in many real datafiles
		b.pool = b.makeVariations(4, variables)
	}
	ids := []any{}
	for range pick(b.random, []int{0, 1, 1, 1, 2, 3}) {
		switch {
		case len(b.project.experiments) > 0 && b.chance(12): // shared with another flag, or listed twice
			ids = append(ids, pick(b.random, b.project.experiments).id)
		default:
			ids = append(ids, b.makeExperiment(variables))
		}
	}
	for _, id := range ids {
		b.touch(&f, b.rules[id.(string)])
	}
	rolloutID := ""
	switch {
	case len(b.rolloutIDs) > 0 && b.chance(10):
		rolloutID = pick(b.random, b.rolloutIDs)
	case b.chance(70):
		rolloutID = b.makeRollout(variables)
	}
	if rolloutID != "" {
		for _, rule := range b.rollout[rolloutID]["experiments"].([]any) {
			b.touch(&f, rule.(object))
		}
	}
	b.project.flags = append(b.project.flags, f)
	return object{"id": b.id(), "key": f.key, "experimentIds": ids, "rolloutId": rolloutID, "variables": b.orEmpty(variables)}
}

// touch notes what forced decisions of a flag may name.
func (b *builder) touch(f *feature, rule object) {
	f.ruleKeys = append(f.ruleKeys, rule["key"].(string))
	for _, v := range rule["variations"].([]any) {
		f.variations = append(f.variations, v.(object)["key"].(string))
	}
}

func (b *builder) makeVariables() []any {
	variables := []any{}
	for i := range b.IntN(5) {
		kind := pick(b.random, []string{"boolean", "integer", "double", "json", "string", "other"})
		v := object{"id": b.id(), "key": "var" + strconv.Itoa(i), "type": kind, "defaultValue": b.variableText(kind)}
		if kind == "json" && b.chance(70) {
			v["type"], v["subType"] = "string", "json"
		}
		if b.chance(8) {
			v["key"] = v["key"].(string) + pick(b.random, awkward)
		}
		variables = append(variables, v)
	}
	return variables
}

// variableText is a text for a variable: half of the time one that anybody might write.
func (b *builder) variableText(kind string) string {
	all := variableTexts[kind]
	if b.chance(50) {
		all = all[:min(3, len(all))]
	}
	return pick(b.random, all)
}

func kindOf(variable object) string {
	if variable["subType"] == "json" {
		return "json"
	}
	return variable["type"].(string)
}

// makeVariations makes up to n variations with values of the flag's variables. A
// key stands once in a rule (DF-P10), and featureEnabled is a boolean.
func (b *builder) makeVariations(n int, variables []any) []any {
	if b.pool != nil && variables != nil {
		return some(b.random, b.pool, n)
	}
	keys := some(b.random, []string{"a", "b", "on", "off", "é", `"q"`, "treatment", ""}, n)
	out := []any{}
	for _, key := range keys {
		v := object{"id": b.id(), "key": key}
		b.maybe(v, 95, "featureEnabled", true, true, true, false)
		usages := []any{}
		for _, variable := range variables {
			if b.chance(60) {
				usages = append(usages, object{"id": variable.(object)["id"], "value": b.variableText(kindOf(variable.(object)))})
			}
		}
		if b.chance(10) {
			usages = append(usages, object{"id": b.id(), "value": "of no variable"})
		}
		if len(usages) > 0 || b.chance(50) {
			v["variables"] = usages
		}
		b.maybe(v, 5, "unknownField", 1)
		out = append(out, v)
	}
	return out
}

// makeRule makes what experiments and delivery rules have in common.
func (b *builder) makeRule(variables []any) object {
	variations := b.makeVariations(b.between(1, 3), variables)
	rule := object{
		"id": b.id(), "key": b.key("rule"), "status": "Running", "layerId": b.id(), "variations": variations,
		"trafficAllocation": b.traffic(ids(variations)), "forcedVariations": object{},
	}
	b.maybe(rule, 12, "status", "Paused", "Not started", "Launched", "running", "")
	b.maybe(rule, 15, "layerId", "", "layer_é", "007")
	b.maybe(rule, 5, "unknownField", []any{1})
	b.address(rule)
	b.ruleIDs = append(b.ruleIDs, rule["id"].(string))
	return rule
}

func ids(variations []any) []string {
	var out []string
	for _, v := range variations {
		out = append(out, v.(object)["id"].(string))
	}
	return out
}

func (b *builder) makeExperiment(variables []any) string {
	e := b.makeRule(variables)
	b.maybe(e, 70, "type", "ab", "mab", "td", "td", "fr", "fr", "fr", "FR", nil)
	id, key := e["id"].(string), e["key"].(string)
	known := experiment{id: id, key: key}
	if b.chance(15) {
		known.isBandit = true
		e["cmab"] = b.makeBandit()
	} else {
		b.maybe(e, 5, "cmab", nil, object{})
	}
	for _, v := range e["variations"].([]any) {
		known.variations = append(known.variations, variation{v.(object)["id"].(string), v.(object)["key"].(string)})
	}
	if e["type"] == "fr" { // mostly with room for the variation of everyone else
		e["trafficAllocation"] = []any{object{"entityId": known.variations[0].id, "endOfRange": b.IntN(6000)}}
	}
	if b.chance(30) {
		list := e["forcedVariations"].(object)
		for _, user := range some(b.random, userIDs, b.between(1, 3)) {
			list[user] = pick(b.random, known.variations).key
			if b.chance(30) {
				list[user] = "zzz"
			}
			b.project.listed = append(b.project.listed, user)
		}
	}
	b.rules[id] = e
	b.project.experiments = append(b.project.experiments, known)
	if len(b.groups) > 0 && b.chance(45) {
		g := pick(b.random, b.groups)
		g.experiments, g.ids = append(g.experiments, e), append(g.ids, id)
	} else {
		b.experiments = append(b.experiments, e)
	}
	return id
}

// makeBandit makes what turns a rule into a contextual bandit.
func (b *builder) makeBandit() object {
	ids := []any{}
	for _, a := range some(b.random, b.attributes, b.IntN(4)) {
		ids = append(ids, a.(object)["id"])
	}
	if len(ids) > 0 && b.chance(15) {
		ids = append(ids, ids[0])
	}
	if b.chance(15) {
		ids = append(ids, "no such attribute")
	}
	return object{"attributeIds": ids, "trafficAllocation": pick(b.random, []int{10000, 10000, 10000, 20000, 0, -5, b.IntN(10000)})}
}

// loosen takes members out of traffic ranges where the SDK's schema doesn't ask
// for them: in delivery rules and holdouts (BK-8, BK-9).
func (b *builder) loosen(rule object) {
	if !b.chance(6) {
		return
	}
	for _, entry := range rule["trafficAllocation"].([]any) {
		if b.chance(40) {
			delete(entry.(object), pick(b.random, []string{"entityId", "endOfRange"}))
		}
	}
}

func (b *builder) makeRollout(variables []any) string {
	id := b.id()
	rules := []any{}
	for range pick(b.random, []int{0, 1, 1, 2, 2, 3, 4}) {
		rule := b.makeRule(variables)
		b.loosen(rule)
		if b.chance(3) {
			rule["cmab"] = b.makeBandit() // never gives a variation (DC-24)
		}
		rules = append(rules, rule)
	}
	if n := len(rules); n > 0 && b.chance(60) {
		last := rules[n-1].(object)
		last["audienceIds"] = []any{}
		delete(last, "audienceConditions")
	}
	b.rollout[id] = object{"id": id, "experiments": rules}
	b.rollouts = append(b.rollouts, b.rollout[id])
	b.rolloutIDs = append(b.rolloutIDs, id)
	return id
}

func (b *builder) makeGroups() []any {
	out := []any{}
	for _, g := range b.groups {
		g.object["experiments"] = g.experiments
		g.object["trafficAllocation"] = b.traffic(g.ids)
		out = append(out, g.object)
	}
	return out
}

// traffic makes an allocation list over ids: mostly a fair split, else with
// gaps, or odd in one of the ways of bucketing.md BK-8 and BK-9.
func (b *builder) traffic(entities []string) []any {
	out := []any{}
	add := func(id string, end int) { out = append(out, object{"entityId": id, "endOfRange": end}) }
	n := len(entities)
	switch shape := b.IntN(100); {
	case n == 0 || shape < 4:
		if b.chance(30) {
			add("", 10000)
		}
	case shape < 55:
		for i, id := range entities {
			add(id, 10000*(i+1)/n)
		}
	case shape < 80: // gaps
		at := 0
		for _, id := range entities {
			if b.chance(40) {
				at += b.IntN(3000)
				add("", at)
			}
			at += b.IntN(10000 / n)
			add(id, at)
		}
	default:
		for range b.between(1, 5) {
			id := pick(b.random, entities)
			if b.chance(25) {
				id = pick(b.random, []string{"", "zz", "0"})
			}
			add(id, pick(b.random, []int{0, -5, 1, b.IntN(10000), b.IntN(10000), b.IntN(10000), 9999, 10000, 20000}))
		}
	}
	return out
}

// address gives a rule or holdout its audience.
func (b *builder) address(rule object) {
	list := []any{}
	switch shape := b.IntN(100); {
	case shape < 40:
	case shape < 65:
		for _, id := range some(b.random, b.audienceIDs, b.between(1, 3)) {
			list = append(list, id)
		}
		b.maybe(rule, 10, "audienceConditions", []any{}, nil)
	case shape < 95:
		rule["audienceConditions"] = b.ruleTree(b.between(1, 3))
		if b.chance(30) {
			list = append(list, b.audienceID())
		}
	default:
		rule["audienceConditions"] = b.audienceID()
	}
	rule["audienceIds"] = list
}

func (b *builder) audienceID() string {
	if b.chance(6) {
		return pick(b.random, []string{"", "no-such-audience", "xor", "AND"})
	}
	return pick(b.random, b.audienceIDs)
}

// ruleTree is a tree over audience ids. An array of nothing but an array is left
// out: the SDK raises while it constructs (DF-P4).
func (b *builder) ruleTree(depth int) []any {
	return b.tree(depth, func() any { return b.audienceID() })
}

// tree is a tree over leaves; [] within a tree is malformed (AU-P1) and left out.
func (b *builder) tree(depth int, leaf func() any) []any {
	out := []any{}
	op := pick(b.random, []string{"and", "or", "not", "and", "or", "not", ""})
	if op != "" {
		out = append(out, op)
	}
	n := pick(b.random, []int{1, 1, 2, 2, 3})
	if op != "" && b.chance(3) {
		n = 0
	}
	for range n {
		if depth > 1 && b.chance(60) && (op != "" || n > 1) {
			out = append(out, b.tree(depth-1, leaf))
		} else {
			out = append(out, leaf())
		}
	}
	if len(out) == 1 && !slices.Contains([]any{"and", "or", "not"}, out[0]) && b.chance(70) {
		return append([]any{"or"}, out...)
	}
	return out
}
