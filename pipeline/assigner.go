package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"sortition/decision"
	"sortition/schemas"
)

// Settings say how activities are assigned. They are the same for files and for
// streams, which is why both give the same records.
type Settings struct {
	Stream    string   // name of the stream; part of every id
	Decide    []string // flags for activities that name none; unused with DecideAll
	DecideAll bool     // decide every flag for activities that name none
	Options   decision.Options
	Env       *decision.Env // nil: no profiles, no predictions
	Client    decision.Client
	Layout    Layout
}

// A Layout is the shape of decision records.
type Layout uint8

// The layouts.
const (
	Nested  Layout = iota // one JSON record per activity
	FlatRow               // one JSON record per activity and flag
	CSVRow                // one CSV row per activity and flag
)

// ParseLayout reads "nested" or "flat".
func ParseLayout(name string) (Layout, error) {
	switch name {
	case "nested":
		return Nested, nil
	case "flat":
		return FlatRow, nil
	}
	return 0, errors.New(`the layout must be "nested" or "flat"`)
}

// A Snapshot is a Project with what records show of its decisions, rendered once
// for everybody. It is safe for concurrent use.
type Snapshot struct {
	Project   *decision.Project
	bandits   []string                 // keys of the flags that may ask a predictor
	fragments []atomic.Pointer[[]byte] // by Decision.Fragment
}

// NewSnapshot prepares a project for assigners.
func NewSnapshot(p *decision.Project) *Snapshot {
	return &Snapshot{Project: p, bandits: p.BanditFlags(), fragments: make([]atomic.Pointer[[]byte], p.NumFragments())}
}

// An Assigner decides activities and renders what comes of them: decision
// records, and the impressions and conversions as visitors of event batches. It
// belongs to one worker and keeps its buffers; after they have grown it doesn't
// allocate for decisions without reasons.
//
// For each activity: Assign, then any of AppendRecord, AppendRow and AddEvents.
// What they return is bytes of the caller's; nothing else outlives the next
// Assign.
type Assigner struct {
	settings    Settings
	snapshot    *Snapshot
	user        decision.User
	decisions   []decision.Decision
	rehearsed   []string // scratch: flags
	record      schemas.DecisionRecord
	ids         schemas.IDs
	reasons     []schemas.Reason
	impressions []decision.Impression
	count       ordinals
	visitor     []byte
	activity    *schemas.Activity
}

// NewAssigner makes an assigner; Use must follow.
func NewAssigner(s Settings) *Assigner { return &Assigner{settings: s} }

// Use makes the following activities be decided by a snapshot. A micro-batch
// uses one throughout.
func (a *Assigner) Use(s *Snapshot) { a.snapshot = s }

// Assign decides one activity read from source. now, in ms since the epoch, is
// the time of an activity that has none of its own: the record's time.
// Source: decide.md section 2, design of the decision record.
func (a *Assigner) Assign(ctx context.Context, act *schemas.Activity, source *schemas.Source, now int64) {
	p := a.snapshot.Project
	options := a.begin(act, source)
	ctx = a.named(ctx)
	if keys, all := a.wanted(act); all {
		a.decisions = p.DecideAll(ctx, a.decisions[:0], &a.user, options, a.settings.Env)
	} else {
		a.decisions = p.DecideKeys(ctx, a.decisions[:0], &a.user, keys, options, a.settings.Env)
	}

	r := &a.record
	*r = schemas.DecisionRecord{
		ActivityID: act.ID, UserID: act.UserID, Timestamp: act.Timestamp,
		Revision: p.Revision(), Datafile: p.Digest(), Source: *source,
		Segments: act.Segments, HasSegments: act.HasSegments, Context: act.Context, Decisions: r.Decisions[:0],
	}
	if !act.HasID {
		r.ActivityID = a.ids.SourceText(source)
	}
	if !act.HasTimestamp {
		r.Timestamp = now
	}
	if a.settings.Layout == Nested {
		r.ID = a.ids.Text(schemas.IDDecision, "", 0)
	}
	a.reasons = a.reasons[:0]
	for i := range a.decisions {
		if d := &a.decisions[i]; d.IsListed() {
			r.Decisions = append(r.Decisions, schemas.FlagDecision{})
			a.fill(&r.Decisions[len(r.Decisions)-1], d)
		}
	}
}

// rehearse decides, of what Assign would, the flags that may ask the predictor. Beside
// what that and the profiles are asked, nothing comes of it.
func (a *Assigner) rehearse(ctx context.Context, act *schemas.Activity, source *schemas.Source) {
	bandits := a.snapshot.bandits
	if keys, all := a.wanted(act); !all {
		a.rehearsed = a.rehearsed[:0]
		for _, key := range keys {
			if slices.Contains(bandits, key) {
				a.rehearsed = append(a.rehearsed, key)
			}
		}
		bandits = a.rehearsed
	}
	if len(bandits) == 0 {
		return
	}
	options := a.begin(act, source)
	a.decisions = a.snapshot.Project.DecideKeys(a.named(ctx), a.decisions[:0], &a.user, bandits, options, a.settings.Env)
	clear(a.rehearsed) // they lie in the decoder's buffers
}

// begin makes an activity the one that is decided, and returns its options.
func (a *Assigner) begin(act *schemas.Activity, source *schemas.Source) decision.Options {
	p := a.snapshot.Project
	a.activity = act
	u := &a.user
	u.Reset(p, act.UserID)
	for i := range act.Attributes {
		u.SetAttribute(act.Attributes[i].Key, ValueOf(&act.Attributes[i].Value))
	}
	if act.HasSegments {
		u.SetSegments(act.Segments)
	}
	for i := range act.Forced {
		f := &act.Forced[i]
		u.SetForcedDecision(f.FlagKey, f.RuleKey, f.VariationKey)
	}
	options := a.settings.Options
	for _, name := range act.Options {
		option, _ := decision.ParseOption(name) // DC-10: unknown names have no effect
		options |= option
	}
	a.ids.Start(a.settings.Stream, source, act.ID, act.HasID)
	return options
}

// named tells the predictor which activity asks, if there may be a question.
func (a *Assigner) named(ctx context.Context) context.Context {
	if len(a.snapshot.bandits) == 0 || a.settings.Env == nil || a.settings.Env.Predictor == nil {
		return ctx
	}
	return withPredictionIDs(ctx, &a.ids)
}

// wanted are the flags that an activity is decided for.
func (a *Assigner) wanted(act *schemas.Activity) (keys []string, all bool) {
	if act.HasDecide {
		return act.Decide, act.DecideAll
	}
	return a.settings.Decide, a.settings.DecideAll
}

// fill makes the record's form of a decision. The fields are left out where the
// rendered fragment stands for them.
func (a *Assigner) fill(out *schemas.FlagDecision, d *decision.Decision) {
	if a.settings.Layout != Nested {
		out.ID = a.ids.Text(schemas.IDDecision, d.FlagKey(), 0)
	}
	i := d.Fragment()
	isPlain := i >= 0 && len(d.Reasons()) == 0
	if isPlain && a.settings.Layout != CSVRow {
		kept := &a.snapshot.fragments[i]
		if text := kept.Load(); text != nil {
			out.Fragment = *text
			return
		}
	}
	out.FlagKey, out.Enabled = d.FlagKey(), d.Enabled()
	out.VariationKey, out.HasVariation = d.VariationKey()
	out.RuleKey, out.HasRule = d.RuleKey()
	out.ExperimentID, out.VariationID = d.ExperimentID(), d.VariationID()
	out.RuleType = d.RuleType().String()
	if d.Err() != decision.NoError {
		out.RuleType = ""
	}
	out.Variables, out.CMABUUID, out.Error = d.VariablesJSON(), d.CMABUUID(), d.Err().String()
	start := len(a.reasons)
	for _, r := range d.Reasons() {
		a.reasons = append(a.reasons, schemas.Reason{Code: r.Code.String(), RuleKey: r.RuleKey, Detail: r.Detail})
	}
	out.Reasons = slices.Clip(a.reasons[start:])
	if isPlain && a.settings.Layout != CSVRow {
		text := schemas.AppendFlagDecision(nil, out)
		a.snapshot.fragments[i].Store(&text)
	}
}

// Decisions are those of the last activity; valid until the next Assign.
func (a *Assigner) Decisions() []decision.Decision { return a.decisions }

// Record is the decision record of the last activity; valid until the next
// Assign.
func (a *Assigner) Record() *schemas.DecisionRecord { return &a.record }

// NumRows is how many rows the flat layouts have for the last activity.
func (a *Assigner) NumRows() int { return len(a.record.Decisions) }

// AppendRecord appends the nested record of the last activity.
func (a *Assigner) AppendRecord(dst []byte) []byte { return a.record.AppendJSON(dst) }

// AppendRow appends the i-th flat record or CSV row of the last activity.
func (a *Assigner) AppendRow(dst []byte, i int) []byte {
	if a.settings.Layout == CSVRow {
		return a.record.AppendCSV(dst, i)
	}
	return a.record.AppendFlatJSON(dst, i)
}

// AddEvents adds the impressions and conversions of the last activity to a batch.
// Impressions that exposures knows are left out, unless it is nil; so are conversions
// whose event the datafile doesn't know. Both are counted.
// Source: events.md sections 3 and 4.
func (a *Assigner) AddEvents(to *EventBatcher, exposures *DedupBatch) (unknown, suppressed int) {
	p := a.snapshot.Project
	a.impressions = decision.AppendImpressions(a.impressions[:0], a.decisions)
	isList := a.activity.HasDecide && !a.activity.DecideAll
	a.count.start(len(a.impressions))
	ordinal := 0
	for i := range a.impressions {
		im := &a.impressions[i]
		// What is left out counts: who comes after it keeps its id.
		switch {
		case isList:
			ordinal = a.count.next(im.FlagKey)
		case i > 0 && a.impressions[i-1].FlagKey == im.FlagKey: // each flag once, its impressions in a row
			ordinal++
		default:
			ordinal = 0
		}
		if exposures != nil && exposures.IsRepeat(a.activity.UserID, im, a.record.Timestamp) {
			suppressed++
			continue
		}
		id := a.ids.Text(schemas.IDImpression, im.FlagKey, ordinal)
		a.visitor = im.AppendVisitor(a.visitor[:0], &a.user, id, a.record.Timestamp)
		to.Add(p, a.settings.Client, a.visitor, id)
	}
	a.count.start(len(a.activity.Events))
	for i := range a.activity.Events {
		e := &a.activity.Events[i]
		ordinal := a.count.next(e.Key)
		c, ok := p.Conversion(e.Key, e.Tags)
		if !ok {
			unknown++
			continue
		}
		at := a.record.Timestamp
		if e.HasTimestamp {
			at = e.Timestamp
		}
		id := a.ids.Text(schemas.IDConversion, e.Key, ordinal)
		a.visitor = c.AppendVisitor(a.visitor[:0], &a.user, id, at)
		to.Add(p, a.settings.Client, a.visitor, id)
	}
	return unknown, suppressed
}

// ordinals count how often each key has come before: among a few by comparing, which
// costs nothing to begin with, among many in a map, or a hostile activity would take
// the square of its length.
type ordinals struct {
	seen []string
	many map[string]int
}

// few is what comparing is good for; most activities have fewer flags and events.
const few = 64

// start begins anew, for n keys. They are not kept beyond the next start.
func (o *ordinals) start(n int) {
	clear(o.seen)
	clear(o.many)
	o.seen = o.seen[:0]
	switch {
	case n <= few:
		o.many = nil
	case o.many == nil:
		o.many = make(map[string]int, n)
	}
}

func (o *ordinals) next(key string) int {
	if o.many != nil {
		n := o.many[key]
		o.many[key] = n + 1
		return n
	}
	n := 0
	for _, k := range o.seen {
		if k == key {
			n++
		}
	}
	o.seen = append(o.seen, key)
	return n
}

// ValueOf makes the engine's value of a decoded one.
func ValueOf(v *schemas.Value) decision.Value {
	switch v.Kind {
	case schemas.KindBool:
		return decision.Bool(v.Bool)
	case schemas.KindNumber:
		return decision.Number(v.Text)
	case schemas.KindString:
		return decision.String(v.Text)
	case schemas.KindComposite:
		return decision.Composite(v.Text)
	case schemas.KindNull:
	}
	return decision.Null()
}
