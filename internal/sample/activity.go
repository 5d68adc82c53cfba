package sample

import (
	"strconv"
	"time"
)

// Base is the time before the first activity, in ms since the epoch:
// 2026-09-21T13:33:20Z.
const Base int64 = 1_790_000_000_000

// DefaultVisitors is the population of a Generator that is told nothing else.
const DefaultVisitors uint32 = 5000

// Options say what a Generator makes. Shares are per mille of the records.
type Options struct {
	// Visitors is the number of people the activities come from; few of them
	// come often. 1 to 2^32-1; 0 means DefaultVisitors.
	Visitors uint32
	// Pause is the mean time between two activities. 0 means 40 ms; finer than
	// 1 ms cannot be told apart.
	Pause time.Duration
	// Start is the time before the first activity. Zero means Base.
	Start time.Time
	// Conversions is the share of activities with events to track.
	Conversions int
	// Lists is the share of activities that name the flags to decide; the others
	// leave it to the configuration.
	Lists int
	// Forced is the share of activities with a forced decision.
	Forced int
	// Bad is the share of unusable records.
	Bad int
}

// DefaultOptions are those of `processor dev` and of examples/activities.ndjson:
// 15 % conversions, 12 % with a list of flags, 0.8 % forced decisions, 0.4 %
// unusable records.
func DefaultOptions() Options {
	return Options{Conversions: 150, Lists: 120, Forced: 8, Bad: 4}
}

// Generator makes activities, one after the other. It is not safe for
// concurrent use.
type Generator struct {
	opts   Options
	seed   uint64
	rand   random
	made   uint64
	now    int64 // ms since the epoch
	who    visitor
	reject string
}

// NewGenerator returns a generator at its first activity. Equal seeds and
// options give equal bytes.
func NewGenerator(seed uint64, opts Options) *Generator {
	if opts.Visitors == 0 {
		opts.Visitors = DefaultVisitors
	}
	if opts.Pause <= 0 {
		opts.Pause = 40 * time.Millisecond
	}
	now := Base
	if !opts.Start.IsZero() {
		now = opts.Start.UnixMilli()
	}
	return &Generator{opts: opts, seed: seed, rand: seeded(seed, 0), now: now}
}

// AppendNext appends the next record and returns the extended slice: one line of
// JSON without its line feed (an unusable record holds no line feed either).
// Good records are about 150 to 650 bytes long, 270 in the mean.
func (g *Generator) AppendNext(dst []byte) []byte {
	g.made++
	g.now += g.rand.between(0, 2*g.opts.Pause.Milliseconds())
	// Squaring the draw makes some visitors regulars: the first tenth of them is
	// behind a third of the activities.
	x := g.rand.below(1 << 32)
	g.who.become(g.seed, (x*x>>32)*uint64(g.opts.Visitors)>>32)
	g.reject = ""
	if g.rand.chance(g.opts.Bad) {
		return g.appendBad(dst)
	}
	return g.appendActivity(dst)
}

// Key returns the Kafka key of the record made last: its user id. It is valid
// until the next call of AppendNext.
func (g *Generator) Key() []byte { return g.who.id }

// Time returns when the record made last happened.
func (g *Generator) Time() time.Time { return time.UnixMilli(g.now).UTC() }

// Reject returns the code with which the record made last must be rejected, or
// "" if it is a good one. The codes are those of package schemas.
func (g *Generator) Reject() string { return g.reject }

func (g *Generator) appendActivity(dst []byte) []byte {
	r, v := &g.rand, &g.who
	dst = append(dst, `{"user_id":"`...)
	dst = append(append(dst, v.id...), '"')
	if r.chance(300) {
		dst = append(appendHex(append(dst, `,"id":"a-`...), r.next(), 12), '"')
	}
	dst = append(dst, `,"timestamp":`...)
	if r.chance(100) {
		dst = g.Time().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.000Z07:00")
		dst = append(dst, '"')
	} else {
		dst = strconv.AppendInt(dst, g.now, 10)
	}
	dst = g.appendAttributes(dst)
	if v.known {
		dst = appendStrings(append(dst, `,"segments":`...), v.segments)
	} else if r.chance(200) {
		dst = append(dst, `,"segments":null`...)
	}
	if r.chance(20) {
		dst = append(appendHex(append(dst, `,"identifiers":{"vuid":"vuid_`...), r.next(), 16), `"}`...)
	}
	// Drawn before the list of flags, because a record that only tracks decides
	// nothing.
	converts := r.chance(g.opts.Conversions)
	dst = g.appendDecide(dst, converts)
	if r.chance(g.opts.Forced) {
		f := pick(r, forcedDecisions)
		dst = append(append(append(dst, `,"forced_decisions":[`...), f...), ']')
	}
	if converts {
		dst = g.appendEvents(dst)
	}
	if r.chance(15) {
		dst = append(dst, `,"odp_events":[{"type":"fullstack","action":"viewed_category","data":{"category":"`...)
		dst = append(append(dst, pick(r, categories)...), `"}}]`...)
	}
	if r.chance(250) {
		dst = appendHex(append(dst, `,"context":{"session":"s-`...), r.next(), 8)
		dst = append(append(dst, `","page":"`...), pick(r, pages)...)
		dst = append(dst, `"}`...)
	}
	return append(dst, '}')
}

var (
	categories = []string{"garden", "kitchen", "books", "outdoor", "toys", "lighting"}
	pages      = []string{"/", "/search", "/cart", "/checkout", "/account", "/p/lamp-40"}
	flagKeys   = []string{
		"checkout_flow", "search_ranking", "search_suggestions", "free_shipping", "loyalty_banner",
		"product_recommendations", "gift_wrapping", "dark_mode", "price_display", "app_rating_prompt",
	}
	forcedDecisions = []string{
		`{"flag_key":"checkout_flow","rule_key":"checkout_one_page","variation_key":"one_page"}`,
		`{"flag_key":"search_ranking","variation_key":"semantic"}`,
		`{"flag_key":"loyalty_banner","rule_key":"default-rollout-banner","variation_key":"gold"}`,
		// Names no variation of the flag: the decision goes on as if it were not there.
		`{"flag_key":"dark_mode","rule_key":"dark_mode_3_x","variation_key":"midnight"}`,
	}
	optionLists = []string{`["INCLUDE_REASONS"]`, `["DISABLE_DECISION_EVENT"]`, `["ENABLED_FLAGS_ONLY","EXCLUDE_VARIABLES"]`}
)

func (g *Generator) appendAttributes(dst []byte) []byte {
	r, v := &g.rand, &g.who
	dst = append(append(dst, `,"attributes":{"country":"`...), v.country...)
	dst = append(append(dst, `","plan":"`...), v.plan...)
	dst = append(append(dst, `","device":"`...), v.device...)
	dst = strconv.AppendBool(append(dst, `","logged_in":`...), v.loggedIn)
	if v.appVersion != "" {
		dst = append(append(append(dst, `,"app_version":"`...), v.appVersion...), '"')
	}
	if v.age > 0 {
		dst = strconv.AppendInt(append(dst, `,"age":`...), v.age, 10)
	}
	if v.loggedIn {
		days := max(0, (g.now-v.signedUp)/day)
		dst = strconv.AppendInt(append(dst, `,"days_since_signup":`...), days, 10)
		dst = append(append(append(dst, `,"email_domain":"`...), v.domain...), '"')
	}
	if v.beta > 0 {
		dst = strconv.AppendBool(append(dst, `,"beta_tester":`...), v.beta == 2)
	}
	if r.chance(350) {
		cents := r.between(490, 26000)
		dst = strconv.AppendInt(append(dst, `,"cart_value":`...), cents/100, 10)
		if cents%100 != 0 {
			dst = append(dst, '.', byte('0'+cents/10%10), byte('0'+cents%10))
		}
	}
	if r.chance(300) {
		// Declared in no datafile: it decides nothing and leaves with no event.
		dst = append(append(append(dst, `,"city":"`...), v.city...), '"')
	}
	return append(dst, '}')
}

func (g *Generator) appendDecide(dst []byte, converts bool) []byte {
	r := &g.rand
	switch {
	case converts && r.chance(300):
		return append(dst, `,"decide":[]`...)
	case r.chance(g.opts.Lists):
		if r.chance(150) {
			dst = append(dst, `,"decide":"*"`...)
		} else {
			first, n := r.below(uint64(len(flagKeys))), r.below(3)+1
			dst = append(dst, `,"decide":[`...)
			for i := range n {
				if i > 0 {
					dst = append(dst, ',')
				}
				// Three steps apart, and ten flags: never the same one twice.
				dst = append(append(append(dst, '"'), flagKeys[(first+3*i)%uint64(len(flagKeys))]...), '"')
			}
			dst = append(dst, ']')
		}
		if r.chance(200) {
			dst = append(append(dst, `,"options":`...), pick(r, optionLists)...)
		}
	}
	return dst
}

func (g *Generator) appendEvents(dst []byte) []byte {
	r := &g.rand
	dst = append(dst, `,"events":[`...)
	switch kind := r.below(10); {
	case kind < 5:
		dst = g.appendAddToCart(dst)
	case kind < 8:
		dst = g.appendPurchase(dst)
	case kind < 9:
		dst = g.appendAddToCart(dst)
		dst = g.appendPurchase(append(dst, ','))
	default:
		dst = append(dst, `{"key":"signup"}`...)
	}
	return append(dst, ']')
}

func (g *Generator) appendAddToCart(dst []byte) []byte {
	r := &g.rand
	dst = append(append(dst, `{"key":"add_to_cart","tags":{"category":"`...), pick(r, categories)...)
	dst = strconv.AppendInt(append(dst, `","quantity":`...), r.between(1, 4), 10)
	return append(dst, `}}`...)
}

func (g *Generator) appendPurchase(dst []byte) []byte {
	r := &g.rand
	cents := r.between(490, 42000)
	dst = strconv.AppendInt(append(dst, `{"key":"purchase","tags":{"revenue":`...), cents, 10)
	dst = strconv.AppendInt(append(dst, `,"value":`...), cents/100, 10)
	dst = append(dst, '.', byte('0'+cents/10%10), byte('0'+cents%10))
	dst = appendHex(append(dst, `,"order":"o-`...), r.next(), 8)
	dst = strconv.AppendInt(append(dst, `","items":`...), r.between(1, 6), 10)
	dst = append(dst, '}')
	if r.chance(250) {
		// Bought a little before the activity was recorded.
		dst = strconv.AppendInt(append(dst, `,"timestamp":`...), g.now-r.between(1, 900), 10)
	}
	return append(dst, '}')
}

// appendStrings appends a JSON array of strings that need no escapes.
func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), s...), '"')
	}
	return append(dst, ']')
}
