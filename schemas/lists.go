package schemas

// The lists whose elements are objects. Their elements' fields are few: each
// is found by name and remembered as a bit. A field nobody knows is checked,
// counted and ignored, as at the top of the record.

// Containers open around an element of such a list, and around its fields.
const (
	elementDepth = 2
	memberDepth  = 3
)

// members is what is known of one element while it is read.
type members struct {
	read, given int // bits of the fields seen, and of those not null
	seen        keySet
}

// once notes a member and reports whether it is the first of its name.
func (d *Decoder) once(m *members, field int, key string) bool {
	if m.read&field != 0 || field == 0 && !d.addKey(&m.seen, key) {
		return false
	}
	m.read |= field
	return true
}

// rest reads a member's value when it is null, or of an unknown field. It
// reports false when the value is still to be read.
func (d *Decoder) rest(data []byte, i int, m *members, field int, a *Activity) (int, bool) {
	if field == 0 {
		a.Unknown++
		return d.value(data, i, memberDepth), true
	}
	if data[i] == 'n' {
		return d.word(data, i, "null"), true
	}
	m.given |= field
	return i, false
}

// missing is the fault of an element without a field it needs.
func (d *Decoder) missing(at int, field string) int {
	d.fail(RejectMissingField, at, "is missing")
	return d.inKey(field)
}

// rawObject reads an object kept as it is.
func (d *Decoder) rawObject(data []byte, at int) ([]byte, int) {
	if data[at] != '{' {
		return nil, d.wrongType(data, at, memberDepth, "want an object")
	}
	i := d.value(data, at, memberDepth)
	if i < 0 {
		return nil, i
	}
	return data[at:i:i], i
}

func (d *Decoder) forcedList(data []byte, at int, a *Activity) ([]ForcedDecision, int) {
	if data[at] != '[' {
		return nil, d.wrongType(data, at, 1, "want an array")
	}
	first := len(d.forced)
	i, more := d.firstElement(data, at)
	for more {
		var f ForcedDecision
		if i = d.forcedDecision(data, i, &f, a); i < 0 {
			return nil, d.inIndex(len(d.forced) - first)
		}
		d.forced = append(d.forced, f)
		i, more = d.nextElement(data, i)
	}
	n := len(d.forced)
	return nonNil(d.forced[first:n:n]), i
}

func (d *Decoder) forcedDecision(data []byte, at int, f *ForcedDecision, a *Activity) int {
	const (
		flagKey = 1 << iota
		ruleKey
		variationKey
	)
	if data[at] != '{' {
		return d.wrongType(data, at, elementDepth, "want an object")
	}
	m := members{seen: keySet{base: len(d.keys)}}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		field := 0
		switch key {
		case "flag_key":
			field = flagKey
		case "rule_key":
			field = ruleKey
		case "variation_key":
			field = variationKey
		}
		if !d.once(&m, field, key) {
			return d.failDuplicate(keyAt, key)
		}
		var done bool
		if i, done = d.rest(data, i, &m, field, a); !done {
			var s string
			s, i = d.stringValue(data, i, memberDepth)
			switch field {
			case flagKey:
				f.FlagKey = s
			case ruleKey:
				f.RuleKey, f.HasRule = s, true
			case variationKey:
				f.VariationKey = s
			}
		}
		if i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:m.seen.base]
	switch {
	case i < 0:
		return i
	case m.given&flagKey == 0:
		return d.missing(at, "flag_key")
	case m.given&variationKey == 0:
		return d.missing(at, "variation_key")
	}
	return i
}

func (d *Decoder) conversionList(data []byte, at int, a *Activity) ([]Conversion, int) {
	if data[at] != '[' {
		return nil, d.wrongType(data, at, 1, "want an array")
	}
	first := len(d.conversions)
	i, more := d.firstElement(data, at)
	for more {
		var c Conversion
		if i = d.conversion(data, i, &c, a); i < 0 {
			return nil, d.inIndex(len(d.conversions) - first)
		}
		d.conversions = append(d.conversions, c)
		i, more = d.nextElement(data, i)
	}
	n := len(d.conversions)
	return nonNil(d.conversions[first:n:n]), i
}

func (d *Decoder) conversion(data []byte, at int, c *Conversion, a *Activity) int {
	const (
		eventKey = 1 << iota
		tags
		timestamp
	)
	if data[at] != '{' {
		return d.wrongType(data, at, elementDepth, "want an object")
	}
	m := members{seen: keySet{base: len(d.keys)}}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		field := 0
		switch key {
		case "key":
			field = eventKey
		case "tags":
			field = tags
		case "timestamp":
			field = timestamp
		}
		if !d.once(&m, field, key) {
			return d.failDuplicate(keyAt, key)
		}
		var done bool
		if i, done = d.rest(data, i, &m, field, a); !done {
			switch field {
			case eventKey:
				c.Key, i = d.stringValue(data, i, memberDepth)
			case tags:
				c.Tags, i = d.rawObject(data, i)
			case timestamp:
				c.Timestamp, i = d.timestamp(data, i, memberDepth)
				c.HasTimestamp = true
			}
		}
		if i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:m.seen.base]
	if i >= 0 && m.given&eventKey == 0 {
		return d.missing(at, "key")
	}
	return i
}

func (d *Decoder) odpList(data []byte, at int, a *Activity) ([]ODPEvent, int) {
	if data[at] != '[' {
		return nil, d.wrongType(data, at, 1, "want an array")
	}
	first := len(d.odpEvents)
	i, more := d.firstElement(data, at)
	for more {
		var e ODPEvent
		if i = d.odpEvent(data, i, &e, a); i < 0 {
			return nil, d.inIndex(len(d.odpEvents) - first)
		}
		d.odpEvents = append(d.odpEvents, e)
		i, more = d.nextElement(data, i)
	}
	n := len(d.odpEvents)
	return nonNil(d.odpEvents[first:n:n]), i
}

func (d *Decoder) odpEvent(data []byte, at int, e *ODPEvent, a *Activity) int {
	const (
		kind = 1 << iota
		action
		identifiers
		odpData
	)
	if data[at] != '{' {
		return d.wrongType(data, at, elementDepth, "want an object")
	}
	m := members{seen: keySet{base: len(d.keys)}}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		field := 0
		switch key {
		case "type":
			field = kind
		case "action":
			field = action
		case "identifiers":
			field = identifiers
		case "data":
			field = odpData
		}
		if !d.once(&m, field, key) {
			return d.failDuplicate(keyAt, key)
		}
		var done bool
		if i, done = d.rest(data, i, &m, field, a); !done {
			switch field {
			case kind:
				e.Type, i = d.stringValue(data, i, memberDepth)
				e.HasType = true
			case action:
				e.Action, i = d.stringValue(data, i, memberDepth)
			case identifiers:
				e.Identifiers, i = d.stringMap(data, i, memberDepth)
			case odpData:
				e.Data, i = d.rawObject(data, i)
			}
		}
		if i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:m.seen.base]
	if i >= 0 && m.given&action == 0 {
		return d.missing(at, "action")
	}
	return i
}
