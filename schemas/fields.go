package schemas

// The fields of an activity, as bits, so that a repeated one is noticed.
const (
	fieldUserID = 1 << iota
	fieldID
	fieldTimestamp
	fieldAttributes
	fieldIdentifiers
	fieldSegments
	fieldDecide
	fieldOptions
	fieldForced
	fieldEvents
	fieldODPEvents
	fieldContext
)

func fieldOf(key string) int {
	switch key {
	case "user_id":
		return fieldUserID
	case "id":
		return fieldID
	case "timestamp":
		return fieldTimestamp
	case "attributes":
		return fieldAttributes
	case "identifiers":
		return fieldIdentifiers
	case "segments":
		return fieldSegments
	case "decide":
		return fieldDecide
	case "options":
		return fieldOptions
	case "forced_decisions":
		return fieldForced
	case "events":
		return fieldEvents
	case "odp_events":
		return fieldODPEvents
	case "context":
		return fieldContext
	}
	return 0
}

// record reads a whole activity. Members of the record are one container deep.
func (d *Decoder) record(data []byte, a *Activity) int {
	at := space(data, 0)
	if at >= len(data) {
		return d.failAt(data, at, "")
	}
	if data[at] != '{' {
		return d.wrongType(data, at, 0, "want an object")
	}
	var read, given int // given leaves out the fields that are null
	seen := keySet{base: len(d.keys)}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		field := fieldOf(key)
		if read&field != 0 || field == 0 && !d.addKey(&seen, key) {
			return d.failDuplicate(keyAt, key)
		}
		read |= field
		switch {
		case field == 0:
			a.Unknown++
			i = d.value(data, i, 1)
		case data[i] == 'n':
			i = d.word(data, i, "null")
		default:
			given |= field
			i = d.field(data, i, field, a)
		}
		if i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	if i < 0 {
		return i
	}
	if i = space(data, i); i < len(data) {
		return d.fail(RejectNotJSON, i, "more text after the record")
	}
	if given&fieldUserID == 0 {
		return d.fail(RejectMissingUserID, -1, "user_id is missing")
	}
	return i
}

// field reads the value of one known field, which is not null.
func (d *Decoder) field(data []byte, i, field int, a *Activity) int {
	switch field {
	case fieldUserID:
		a.UserID, i = d.stringValue(data, i, 1)
	case fieldID:
		a.ID, i = d.stringValue(data, i, 1)
		a.HasID = true
	case fieldTimestamp:
		a.Timestamp, i = d.timestamp(data, i, 1)
		a.HasTimestamp = true
	case fieldAttributes:
		a.Attributes, i = d.attributeMap(data, i)
	case fieldIdentifiers:
		a.Identifiers, i = d.stringMap(data, i, 1)
	case fieldSegments:
		a.Segments, i = d.stringList(data, i, 1)
		a.HasSegments = true
	case fieldDecide:
		i = d.decideList(data, i, a)
	case fieldOptions:
		a.Options, i = d.stringList(data, i, 1)
	case fieldForced:
		a.Forced, i = d.forcedList(data, i, a)
	case fieldEvents:
		a.Events, i = d.conversionList(data, i, a)
	case fieldODPEvents:
		a.ODPEvents, i = d.odpList(data, i, a)
	case fieldContext:
		at := i
		if i = d.value(data, i, 1); i >= 0 {
			a.Context = data[at:i:i]
		}
	}
	return i
}

func (d *Decoder) stringValue(data []byte, i, depth int) (string, int) {
	if data[i] != '"' {
		return "", d.wrongType(data, i, depth, "want a string")
	}
	return d.text(data, i)
}

func (d *Decoder) timestamp(data []byte, at, depth int) (int64, int) {
	const want = "want an integer of milliseconds or an RFC 3339 time"
	switch c := data[at]; {
	case c == '"':
		s, i := d.text(data, at)
		if i < 0 {
			return 0, i
		}
		ms, ok := parseTime(s)
		if !ok {
			return 0, d.fail(RejectWrongType, at, want)
		}
		return ms, i
	case c == '-' || c-'0' <= 9:
		i := d.number(data, at)
		if i < 0 {
			return 0, i
		}
		ms, isInteger, inRange := integerMillis(alias(data[at:i]))
		if !isInteger {
			return 0, d.fail(RejectWrongType, at, want)
		}
		if !inRange {
			return 0, d.fail(RejectOutOfRange, at, "not in the years 0000 to 9999")
		}
		return ms, i
	}
	return 0, d.wrongType(data, at, depth, want)
}

func (d *Decoder) attributeMap(data []byte, at int) ([]Attribute, int) {
	if data[at] != '{' {
		return nil, d.wrongType(data, at, 1, "want an object")
	}
	first := len(d.attributes)
	seen := keySet{base: len(d.keys)}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return nil, i
		}
		if !d.addKey(&seen, key) {
			return nil, d.failDuplicate(keyAt, key)
		}
		var v Value
		valueAt := i
		switch data[i] {
		case '"':
			v.Kind = KindString
			v.Text, i = d.text(data, i)
		case '{', '[':
			v.Kind = KindComposite
			if i = d.value(data, i, 2); i >= 0 {
				v.Text = alias(data[valueAt:i])
			}
		case 't':
			v.Kind, v.Bool = KindBool, true
			i = d.word(data, i, "true")
		case 'f':
			v.Kind = KindBool
			i = d.word(data, i, "false")
		case 'n':
			i = d.word(data, i, "null")
		default:
			v.Kind = KindNumber
			if i = d.value(data, i, 2); i >= 0 {
				v.Text = alias(data[valueAt:i])
			}
		}
		if i < 0 {
			return nil, d.inKey(key)
		}
		d.attributes = append(d.attributes, Attribute{key, v})
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:seen.base]
	n := len(d.attributes)
	return nonNil(d.attributes[first:n:n]), i
}

// stringMap reads an object of strings. A null member is left out.
func (d *Decoder) stringMap(data []byte, at, depth int) ([]Pair, int) {
	if data[at] != '{' {
		return nil, d.wrongType(data, at, depth, "want an object")
	}
	first := len(d.pairs)
	seen := keySet{base: len(d.keys)}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key, value string
		if key, i = d.key(data, i); i < 0 {
			return nil, i
		}
		if !d.addKey(&seen, key) {
			return nil, d.failDuplicate(keyAt, key)
		}
		if data[i] == 'n' {
			i = d.word(data, i, "null")
		} else if value, i = d.stringValue(data, i, depth+1); i >= 0 {
			d.pairs = append(d.pairs, Pair{key, value})
		}
		if i < 0 {
			return nil, d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:seen.base]
	n := len(d.pairs)
	return nonNil(d.pairs[first:n:n]), i
}

func (d *Decoder) stringList(data []byte, at, depth int) ([]string, int) {
	if data[at] != '[' {
		return nil, d.wrongType(data, at, depth, "want an array of strings")
	}
	first := len(d.strings)
	i, more := d.firstElement(data, at)
	for more {
		var s string
		if s, i = d.stringValue(data, i, depth+1); i < 0 {
			return nil, d.inIndex(len(d.strings) - first)
		}
		d.strings = append(d.strings, s)
		i, more = d.nextElement(data, i)
	}
	n := len(d.strings)
	return nonNil(d.strings[first:n:n]), i
}

func (d *Decoder) decideList(data []byte, at int, a *Activity) int {
	const want = `want "*" or an array of flag keys`
	a.HasDecide = true
	switch data[at] {
	case '[':
		var i int
		a.Decide, i = d.stringList(data, at, 1)
		return i
	case '"':
		s, i := d.text(data, at)
		if i >= 0 && s != "*" {
			return d.fail(RejectWrongType, at, want)
		}
		a.DecideAll = true
		return i
	}
	return d.wrongType(data, at, 1, want)
}

// nonNil makes an empty list differ from an absent one even when the decoder
// has no buffer yet.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
