package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
)

// A Project is a compiled datafile. It never changes and may be used by any
// number of goroutines. Strings it hands out alias it and keep it alive.
type Project struct {
	raw       []byte
	digest    string
	meta      meta
	warnings  []Fault
	flags     []flag
	flagByKey nameTable

	rules      []rule // holdouts that run, then flag by flag: experiment rules, delivery rules
	ranges     []trafficRange
	variations []variation
	groups     []group

	numHoldoutVariations uint32

	globals []uint32 // rules: the global holdouts that run, in order

	nodes     []node // programs of all audiences and rules
	audiences []audience
	versions  []semver
	leaves    []leafInfo // what node.info points at; read by Explain only

	slots         []slot
	numAttributes int
	slotByKey     nameTable // attribute key to slot
	bucketingSlot uint32

	segmentByName nameTable // segment of "qualified" conditions to its mark
	numSegments   int       // of those
	listedUsers   nameTable // users named by a whitelist
	segments      []string  // DF-26: the set to ask ODP for

	experimentByKey nameTable // legacy calls: plain and group experiments
	numFlagRules    uint32    // rules behind these are experiments that no flag lists
	config          func() *Config

	events map[string]string // event key to id

	holdoutVariables map[[2]uint32]string // (flag, variation): when an enabled holdout variation overrides defaults

	eventFragments []atomic.Pointer[[]byte] // by Decision.Fragment: rendered impression, made on first use
}

// meta is what the datafile says about itself.
type meta struct {
	version, accountID, projectID, revision string
	sdkKey, environmentKey, region          string
	anonymizeIP, sendFlagDecisions          bool
	botFiltering, hasBotFiltering           bool
	odpHost, odpKey                         string
	hasODP                                  bool
}

// none stands for "no index" in every index type.
const none = ^uint32(0)

type flag struct {
	key, id                 string
	experiments, deliveries span     // into rules
	variations              []uint32 // of all rules, first occurrence of each id, in order: DC-12
	variables               []variable
	defaults                string // rendered defaults: no variation, or a disabled one
	hasBandit               bool   // an experiment rule asks a Predictor
}

type span struct{ start, end uint32 }

type variable struct {
	id, key, fallback string
	kind              variableType
}

type rule struct {
	// What every visit reads comes first.
	ruleType     RuleType
	isRunning    bool
	isTargeted   bool // type "td": visited although a holdout was bypassed
	isBypassable bool // holdout that excludes targeted deliveries: DC-17a
	isBandit     bool
	cond         uint32 // root of the audience program; none: everyone
	group        uint32 // exclusive group, or none
	ranges       span
	id           string
	locals       []uint32 // rules: local holdouts in order
	whitelist    []listing

	key, campaignID  string
	variations       span
	banditTraffic    int32
	banditAttributes []banditAttribute
}

// A listing names the variation of one whitelisted user.
type listing struct {
	user      uint32 // in Project.listedUsers
	variation uint32 // none: the datafile names a key the rule doesn't have
}

type banditAttribute struct {
	id   string
	slot uint32
}

// A trafficRange is one entry of an allocation list; a bucket below end falls in.
type trafficRange struct {
	end       int32
	variation uint32 // none: nobody gets anything here
	entityID  string // as in the datafile; for groups the experiment id
}

type group struct {
	id     string
	ranges span
}

type variation struct {
	id, key   string
	enabled   bool
	rule      uint32
	variables string // rendered, for the flag of its rule
	eventKey  string // key that events carry: the flag's first variation of this id (EV-21)
	eventID   string // id that events carry; "" is null (EV-17)
	usages    map[string]string

	injectedBy uint32 // as in the datafile's struct; read while compiling
}

type audience struct {
	id, name string
	root     uint32
}

type slot struct {
	key      string
	entityID string // "" when events don't carry the attribute
	fragment string // the attribute's JSON in events up to the value
}

// Datafile returns the text the project was compiled from; don't modify it.
// Source: datafile.md DF-5.
func (p *Project) Datafile() []byte { return p.raw }

// Digest identifies the datafile's text: "sha256:" and 64 hex digits.
func (p *Project) Digest() string { return p.digest }

// Revision is the datafile's revision: opaque, compared for equality only.
func (p *Project) Revision() string { return p.meta.revision }

// Version is the datafile's version: "2", "3" or "4".
func (p *Project) Version() string { return p.meta.version }

// AccountID is the account events are sent for.
func (p *Project) AccountID() string { return p.meta.accountID }

// ProjectID is the project events are sent for.
func (p *Project) ProjectID() string { return p.meta.projectID }

// SDKKey is the datafile's own SDK key, "" if it names none.
func (p *Project) SDKKey() string { return p.meta.sdkKey }

// EnvironmentKey is the datafile's environment, "" if it names none.
func (p *Project) EnvironmentKey() string { return p.meta.environmentKey }

// SendFlagDecisions tells whether delivery rules and "no rule" send impressions.
func (p *Project) SendFlagDecisions() bool { return p.meta.sendFlagDecisions }

// ODP returns host and public key of the ODP integration; both are "" when the
// project isn't integrated. Source: datafile.md DF-23.
func (p *Project) ODP() (host, publicKey string) {
	if p.meta.odpHost == "" || p.meta.odpKey == "" {
		return "", ""
	}
	return p.meta.odpHost, p.meta.odpKey
}

// Segments lists the segments that audiences ask for, without repeats, in order
// of first appearance, typed audiences first. Source: datafile.md DF-P14.
func (p *Project) Segments() []string { return append([]string(nil), p.segments...) }

// Warnings lists what was odd but harmless in the datafile.
func (p *Project) Warnings() []Fault { return append([]Fault(nil), p.warnings...) }

// NumFlags is the number of flags, and of decisions [Project.DecideAll] makes.
func (p *Project) NumFlags() int { return len(p.flags) }

// FlagKey returns the key of the i-th flag in datafile order.
func (p *Project) FlagKey(i int) string { return p.flags[i].key }

// HasFlag tells whether a flag of this key exists.
func (p *Project) HasFlag(key string) bool {
	return p.flagByKey.find(key) != none
}

// BanditFlags returns the keys of the flags of which an experiment rule may ask a
// [Predictor], in datafile order; nil if there is none. The caller owns the slice.
func (p *Project) BanditFlags() []string {
	var keys []string
	for i := range p.flags {
		if p.flags[i].hasBandit {
			keys = append(keys, p.flags[i].key)
		}
	}
	return keys
}

// NumFragments bounds [Decision.Fragment].
func (p *Project) NumFragments() int { return len(p.eventFragments) }

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A Summary counts what a datafile holds.
type Summary struct {
	Version           string   `json:"version"`
	Revision          string   `json:"revision"`
	AccountID         string   `json:"account_id"`
	ProjectID         string   `json:"project_id"`
	Flags             int      `json:"flags"`
	ExperimentRules   int      `json:"experiment_rules"`
	DeliveryRules     int      `json:"delivery_rules"`
	Holdouts          int      `json:"holdouts"` // those that run
	Groups            int      `json:"groups"`   // those that exclude each other
	Audiences         int      `json:"audiences"`
	Attributes        int      `json:"attributes"`
	Events            int      `json:"events"`
	Segments          []string `json:"segments"`
	SendFlagDecisions bool     `json:"send_flag_decisions"`
	Digest            string   `json:"digest"`
}

// Summary counts what the datafile holds.
func (p *Project) Summary() Summary {
	s := Summary{
		Version: p.meta.version, Revision: p.meta.revision, AccountID: p.meta.accountID, ProjectID: p.meta.projectID,
		Flags: len(p.flags), Attributes: p.numAttributes, Groups: len(p.groups), Audiences: len(p.audiences), Events: len(p.events),
		Segments: p.Segments(), SendFlagDecisions: p.meta.sendFlagDecisions, Digest: p.digest,
	}
	for i := range p.rules {
		switch p.rules[i].ruleType {
		case RuleExperiment:
			s.ExperimentRules++
		case RuleDelivery:
			s.DeliveryRules++
		case RuleHoldout:
			s.Holdouts++
		case RuleLegacy: // no rule is of this type
		}
	}
	return s
}
