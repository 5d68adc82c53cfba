package decision

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// wire.go reads the generic JSON tree of a datafile into the wire structs below
// and collects every fault with its path. The structs die after Compile.

type wireFile struct {
	meta        meta
	attributes  []wireEntity
	events      []wireEvent
	audiences   []wireAudience // legacy
	typed       []wireAudience
	experiments []*wireRule // plain
	groups      []wireGroup
	rollouts    []wireRollout
	flags       []wireFlag
	holdouts    []*wireRule
	local       []*wireRule
}

type wireEntity struct{ id, key string }

type wireEvent struct {
	id, key       string
	experimentIDs []string
}

type wireAudience struct {
	at         *place
	id, name   string
	conditions any    // the tree; legacy text already parsed
	text       string // of a legacy audience
}

type wireRule struct {
	at                            *place
	id, key, layerID, status, typ string
	conditions                    any  // tree over audience ids; nil: everyone
	hasTree                       bool // audienceConditions was given
	variations                    []wireVariation
	traffic                       []wireRange
	forced                        map[string]string
	bandit                        *wireBandit
	includedRules                 []string
	excludesTargeted              bool
}

type wireBandit struct {
	attributeIDs []string
	traffic      int32
}

type wireVariation struct {
	id, key    string
	enabled    bool
	hasEnabled bool
	usages     map[string]string
	injectedBy int // number of the flag whose rollout lent the variation; 0: the rule's own
}

type wireRange struct {
	entityID string
	end      int32
}

type wireGroup struct {
	at          *place
	id, policy  string
	experiments []*wireRule
	traffic     []wireRange
}

type wireRollout struct {
	id    string
	rules []*wireRule
}

type wireFlag struct {
	at            *place
	id, key       string
	experimentIDs []string
	experimentAt  []int // the place of each in the datafile's list
	rolloutID     string
	variables     []variable
}

// A place is where a value stands in the datafile; its text is made only when a
// fault is reported.
type place struct {
	parent *place
	name   string
	index  int // when name is ""
}

func (p *place) field(name string) *place { return &place{parent: p, name: name} }
func (p *place) elem(i int) *place        { return &place{parent: p, index: i} }

func (p *place) String() string {
	if p == nil {
		return "$"
	}
	if p.name == "" {
		return p.parent.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	return p.parent.String() + "." + p.name
}

// need says what the absence of a member means.
type need uint8

const (
	optional need = iota
	required
)

// A reader turns the tree into wire structs.
type reader struct {
	faults   []Fault
	warnings []Fault
	isStrict bool // the schema step is on
	hasLost  bool // a rule could not be read as far as its id, so what names it isn't at fault
}

func (r *reader) fault(at *place, format string, args ...any) {
	r.faults = append(r.faults, Fault{at.String(), fmt.Sprintf(format, args...)})
}

func (r *reader) warn(at *place, format string, args ...any) {
	r.warnings = append(r.warnings, Fault{at.String(), fmt.Sprintf(format, args...)})
}

// schema is the need of members that only the schema step asks for.
func (r *reader) schema() need {
	if r.isStrict {
		return required
	}
	return optional
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	default:
		panic(fmt.Sprintf("BUG: %T in a JSON tree", v))
	}
}

func (r *reader) object(at *place, v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok {
		r.fault(at, "must be an object, not %s", typeName(v))
	}
	return m
}

// text reads a string member; null counts as absent when it is optional.
func (r *reader) text(at *place, m map[string]any, name string, n need) string {
	v, ok := m[name]
	switch s := v.(type) {
	case string:
		return s
	case nil:
		switch {
		case n == optional:
		case ok:
			r.fault(at.field(name), "must be a string, not null")
		default:
			r.fault(at.field(name), "is missing: a string is required")
		}
	default:
		r.fault(at.field(name), "must be a string, not %s", typeName(v))
	}
	return ""
}

// identity reads a string that, with the schema step off, may also be a number.
func (r *reader) identity(at *place, m map[string]any, name string, n need) string {
	if num, ok := m[name].(json.Number); ok && !r.isStrict {
		r.warn(at.field(name), "is a number; its text is used")
		return num.String()
	}
	return r.text(at, m, name, n)
}

func (r *reader) boolean(at *place, m map[string]any, name string) (value, given bool) {
	v, ok := m[name]
	if !ok || v == nil {
		return false, false
	}
	b, ok := v.(bool)
	if !ok {
		r.fault(at.field(name), "must be true or false, not %s", typeName(v))
	}
	return b, ok
}

// list reads an array member. nullable lets null stand for an empty one.
func (r *reader) list(at *place, m map[string]any, name string, n need, nullable bool) []any {
	v, ok := m[name]
	switch a := v.(type) {
	case []any:
		return a
	case nil:
		switch {
		case ok && nullable:
			r.warn(at.field(name), "is null; taken as empty")
		case ok:
			r.fault(at.field(name), "must be an array, not null")
		case n == required:
			r.fault(at.field(name), "is missing: an array is required")
		}
	default:
		r.fault(at.field(name), "must be an array, not %s", typeName(v))
	}
	return nil
}

func (r *reader) strings(at *place, m map[string]any, name string, n need, nullable bool) []string {
	list := r.list(at, m, name, n, nullable)
	out := make([]string, 0, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			r.fault(at.field(name).elem(i), "must be a string, not %s", typeName(v))
			continue
		}
		out = append(out, s)
	}
	return out
}

// integer reads a whole number, clamped to 32 bits. 10000.0 passes with a
// warning. Source: datafile.md DF-P6.
func (r *reader) integer(at *place, v any) (int32, bool) {
	num, ok := v.(json.Number)
	if !ok {
		r.fault(at, "must be an integer, not %s", typeName(v))
		return 0, false
	}
	f, err := num.Float64()
	if err != nil || f != math.Trunc(f) {
		r.fault(at, "must be an integer, not %s", num)
		return 0, false
	}
	if _, err := strconv.ParseInt(num.String(), 10, 64); err != nil && math.Abs(f) < 1<<62 {
		r.warn(at, "is written as %s; taken as an integer", num)
	}
	return int32(max(math.MinInt32, min(math.MaxInt32, f))), true
}

// file reads the root. Source: datafile.md sections 2 and 3.
func (r *reader) file(m map[string]any) *wireFile {
	var at *place
	f := &wireFile{}
	schema := r.schema()
	f.meta = meta{
		accountID: r.identity(at, m, "accountId", schema), projectID: r.identity(at, m, "projectId", schema),
		revision: r.identity(at, m, "revision", required), sdkKey: r.text(at, m, "sdkKey", optional),
		environmentKey: r.text(at, m, "environmentKey", optional), region: r.text(at, m, "region", optional),
	}
	f.meta.anonymizeIP, _ = r.boolean(at, m, "anonymizeIP")
	f.meta.sendFlagDecisions, _ = r.boolean(at, m, "sendFlagDecisions")
	f.meta.botFiltering, f.meta.hasBotFiltering = r.boolean(at, m, "botFiltering")

	each := func(name string, n need, read func(at *place, m map[string]any)) {
		holdsRules := name == "experiments" || name == "groups" || name == "rollouts"
		nullable := name == "integrations" && !r.isStrict
		list := r.list(at, m, name, n, nullable)
		if _, ok := m[name].([]any); !ok && holdsRules && (n == required || m[name] != nil) {
			r.hasLost = true
		}
		for i, v := range list {
			at := at.field(name).elem(i)
			if m := r.object(at, v); m != nil {
				read(at, m)
			} else if holdsRules {
				r.hasLost = true
			}
		}
	}
	each("attributes", schema, func(at *place, m map[string]any) {
		f.attributes = append(f.attributes, wireEntity{r.text(at, m, "id", required), r.text(at, m, "key", required)})
	})
	each("events", schema, func(at *place, m map[string]any) {
		f.events = append(f.events, wireEvent{
			r.text(at, m, "id", required), r.text(at, m, "key", required), r.strings(at, m, "experimentIds", required, false),
		})
	})
	each("audiences", schema, func(at *place, m map[string]any) { f.audiences = append(f.audiences, r.legacyAudience(at, m)) })
	each("typedAudiences", optional, func(at *place, m map[string]any) { f.typed = append(f.typed, r.typedAudience(at, m)) })
	each("experiments", required, func(at *place, m map[string]any) { f.experiments = append(f.experiments, r.rule(at, m, schema)) })
	each("groups", required, func(at *place, m map[string]any) { f.groups = append(f.groups, r.group(at, m)) })
	each("rollouts", optional, func(at *place, m map[string]any) { f.rollouts = append(f.rollouts, r.rollout(at, m)) })
	each("featureFlags", optional, func(at *place, m map[string]any) { f.flags = append(f.flags, r.flag(at, m)) })
	each("holdouts", optional, func(at *place, m map[string]any) {
		h := r.holdout(at, m)
		h.excludesTargeted = m["excludeTargetedDeliveries"] == true
		if _, ok := m["includedRules"]; ok {
			r.warn(at.field("includedRules"), "is ignored: a holdout in holdouts is global")
		}
		f.holdouts = append(f.holdouts, h)
	})
	each("localHoldouts", optional, func(at *place, m map[string]any) {
		h := r.holdout(at, m)
		if m["includedRules"] == nil {
			r.warn(at.field("includedRules"), "is missing: the local holdout is left out")
			return
		}
		h.includedRules = r.strings(at, m, "includedRules", required, false)
		f.local = append(f.local, h)
	})
	each("integrations", optional, func(at *place, m map[string]any) { r.integration(&f.meta, at, m) })
	return f
}

// integration keeps the first ODP entry. Source: datafile.md DF-23.
func (r *reader) integration(out *meta, at *place, m map[string]any) {
	for _, name := range [...]string{"host", "publicKey"} {
		if v, ok := m[name]; ok && v == nil && r.isStrict {
			r.fault(at.field(name), "must be a string, not null")
		}
	}
	key := r.text(at, m, "key", required)
	host, publicKey := r.text(at, m, "host", optional), r.text(at, m, "publicKey", optional)
	if key == "odp" && !out.hasODP {
		out.hasODP, out.odpHost, out.odpKey = true, host, publicKey
	}
}
