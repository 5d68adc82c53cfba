package decision

import "strconv"

// An Impression is the event that a decision was made: a value, without the id
// and time that whoever sends it gives. Source: events.md sections 2 to 5.
type Impression struct {
	FlagKey      string
	RuleKey      string // "" when no rule decided
	RuleType     RuleType
	VariationKey string // "" when there is no variation
	VariationID  string // "" is sent as null: none, or not all digits (EV-17)
	CampaignID   string // also the event's entity id (EV-16, EV-18)
	ExperimentID string // "" when no rule decided
	CMABUUID     string // "" is left out
	IsEnabled    bool

	p        *Project
	fragment int
}

// AppendImpressions appends the impressions that decisions send, in order: none
// for those that aren't dispatched, two for one made past a bypassed holdout.
// They alias the Project. It doesn't allocate when dst has room.
// Source: decide.md DC-40, DC-40a; events.md EV-6 to EV-9.
func AppendImpressions(dst []Impression, decisions []Decision) []Impression {
	for i := range decisions {
		d := &decisions[i]
		if !d.isDispatched {
			continue
		}
		source := d.RuleType()
		if d.bypassed != none && source != RuleHoldout {
			held := *d
			held.rule, held.variation, held.extras = d.bypassed, d.bypassedVariation, nil
			dst = append(dst, held.impression())
		}
		if source != RuleDelivery || d.p.meta.sendFlagDecisions {
			dst = append(dst, d.impression())
		}
	}
	return dst
}

func (d *Decision) impression() Impression {
	im := Impression{FlagKey: d.key, RuleType: d.RuleType(), IsEnabled: d.Enabled(), CMABUUID: d.CMABUUID(), p: d.p}
	if d.rule != none {
		r := &d.p.rules[d.rule]
		im.RuleKey, im.ExperimentID, im.CampaignID = r.key, r.id, r.campaignID
	}
	if d.variation != none {
		v := &d.p.variations[d.variation]
		im.VariationKey, im.VariationID = v.eventKey, v.eventID
	}
	shown := *d
	shown.hasNoVariables = false // events carry no variables
	im.fragment = shown.Fragment()
	return im
}

// AppendVisitor appends the impression as a visitor object of an event batch,
// with u as the visitor. uuid and the timestamp (ms since the epoch) are fixed
// by the caller when the decision is made. Source: events.md section 2, EV-3.
func (im *Impression) AppendVisitor(dst []byte, u *User, uuid string, timestamp int64) []byte {
	dst = u.appendVisitorHead(dst)
	if im.fragment >= 0 {
		kept := &im.p.eventFragments[im.fragment]
		text := kept.Load()
		if text == nil {
			made := im.appendDecision(nil)
			text = &made
			kept.Store(text)
		}
		dst = append(dst, *text...)
	} else {
		dst = im.appendDecision(dst)
	}
	dst = append(dst, uuid...)
	dst = append(dst, `","timestamp":`...)
	dst = strconv.AppendInt(dst, timestamp, 10)
	return append(dst, `}]}]}`...)
}

// appendDecision appends the part from the decisions to the event's uuid.
func (im *Impression) appendDecision(dst []byte) []byte {
	dst = append(dst, `"decisions":[{"campaign_id":`...)
	dst = appendString(dst, im.CampaignID)
	dst = append(dst, `,"experiment_id":`...)
	dst = appendString(dst, im.ExperimentID)
	dst = append(dst, `,"variation_id":`...)
	if im.VariationID == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, im.VariationID)
	}
	dst = append(dst, `,"metadata":{"flag_key":`...)
	dst = appendString(dst, im.FlagKey)
	dst = append(dst, `,"rule_key":`...)
	dst = appendString(dst, im.RuleKey)
	dst = append(dst, `,"rule_type":"`...)
	dst = append(dst, im.RuleType.String()...)
	dst = append(dst, `","variation_key":`...)
	dst = appendString(dst, im.VariationKey)
	dst = append(dst, `,"enabled":`...)
	dst = strconv.AppendBool(dst, im.IsEnabled)
	if im.CMABUUID != "" {
		dst = append(dst, `,"cmab_uuid":`...)
		dst = appendString(dst, im.CMABUUID)
	}
	dst = append(dst, `}}],"events":[{"entity_id":`...)
	dst = appendString(dst, im.CampaignID)
	return append(dst, `,"key":"campaign_activated","uuid":"`...)
}

// appendVisitorHead appends a visitor up to the members of its one snapshot.
// The attributes are rendered once per user. Source: events.md section 2, EV-26.
func (u *User) appendVisitorHead(dst []byte) []byte {
	if !u.hasEvents {
		u.events = u.appendEventAttributes(append(u.events[:0], `,"attributes":[`...))
		u.events = append(u.events, `],"snapshots":[{`...)
		u.hasEvents = true
	}
	dst = append(dst, `{"visitor_id":`...)
	dst = appendString(dst, u.id)
	return append(dst, u.events...)
}

// appendEventAttributes appends the attributes events carry, comma-separated:
// text, booleans and numbers in range, of declared or reserved keys; then the
// project's bot filtering. Source: events.md EV-22 to EV-25.
func (u *User) appendEventAttributes(dst []byte) []byte {
	start := len(dst)
	comma := func() {
		if len(dst) > start {
			dst = append(dst, ',')
		}
	}
	for _, i := range u.order {
		s, v := &u.p.slots[i], &u.values[i]
		if s.fragment == "" || !v.isSendable() {
			continue
		}
		comma()
		dst = append(dst, s.fragment...)
		dst = append(v.AppendJSON(dst), '}')
	}
	for i := range u.extras {
		x := &u.extras[i]
		if !x.value.isSendable() {
			continue
		}
		comma()
		dst = appendAttributeHead(dst, x.key, x.key)
		dst = append(x.value.AppendJSON(dst), '}')
	}
	if u.p.meta.hasBotFiltering {
		comma()
		dst = appendAttributeHead(dst, botFilteringKey, botFilteringKey)
		dst = append(strconv.AppendBool(dst, u.p.meta.botFiltering), '}')
	}
	return dst
}

const botFilteringKey = "$opt_bot_filtering"

func appendAttributeHead(dst []byte, entityID, key string) []byte {
	dst = append(dst, `{"entity_id":`...)
	dst = appendString(dst, entityID)
	dst = append(dst, `,"key":`...)
	dst = appendString(dst, key)
	return append(dst, `,"type":"custom","value":`...)
}

func (v *Value) isSendable() bool {
	switch v.kind {
	case KindString, KindBool:
		return true
	case KindNumber:
		return v.inRange
	default:
		return false
	}
}
