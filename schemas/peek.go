package schemas

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A Peek is what enrichment needs to know of an activity before it is decoded. Its
// strings alias the record and the decoder's buffers, as an Activity's do.
type Peek struct {
	UserID string
	// Identifier is the value in identifiers of the name asked for; "" also when there
	// is none.
	Identifier  string
	HasSegments bool // as in Activity
}

// Peek reads what a Peek holds of the record that DecodeEvent would decode, without
// reading the rest: for a stage that finds something out about all records of a batch
// before it decodes and decides one after the other. identifier is the name of one of
// the activity's identifiers, or "" if none is wanted.
//
// Of a record that DecodeEvent accepts it tells what DecodeEvent reads. Of any other it
// may tell anything: DecodeEvent has yet to be asked. ok is false when nothing can be
// told, and then DecodeEvent does not accept the record.
//
// p is valid until the next call of Peek, Decode or Reset.
func (d *Decoder) Peek(headers []Header, value []byte, m *Mapping, identifier string, p *Peek) (ok bool) {
	d.Reset()
	*p = Peek{}
	if m != nil {
		return d.peekDecoded(headers, value, m, identifier, p)
	}
	if len(headers) > 0 {
		var e cloudEvent
		if contentType := e.readHeaders(headers); isEventType(contentType) {
			at := d.peekData(value)
			if at < 0 { // data_base64, or none
				return d.peekDecoded(headers, value, m, identifier, p)
			}
			value = value[at:]
		}
		// In binary mode the value is the activity, whatever the headers hold.
	}
	return d.peekRecord(value, identifier, p)
}

// peekDecoded is Peek the long way.
func (d *Decoder) peekDecoded(headers []Header, value []byte, m *Mapping, identifier string, p *Peek) bool {
	var a Activity
	if d.DecodeEventMore(headers, value, m, &a) != nil {
		return false
	}
	p.Of(&a, identifier)
	return true
}

// Of makes p what Peek tells of a record that was decoded into a.
func (p *Peek) Of(a *Activity, identifier string) {
	*p = Peek{UserID: a.UserID, HasSegments: a.HasSegments}
	for i := range a.Identifiers {
		if identifier != "" && a.Identifiers[i].Key == identifier {
			p.Identifier = a.Identifiers[i].Value
		}
	}
}

// peekRecord tells from the text alone where that suffices. Where it has no escapes, a
// name it doesn't hold is no member's, and one it holds once is the member's that a good
// record must have.
func (d *Decoder) peekRecord(data []byte, identifier string, p *Peek) bool {
	hasEscapes := bytes.IndexByte(data, '\\') >= 0
	wanted := fieldUserID
	if hasEscapes || findName(data, "segments") >= 0 {
		wanted |= fieldSegments
	}
	if identifier != "" && (hasEscapes || findName(data, identifier) >= 0) {
		wanted |= fieldIdentifiers
	}
	if hasEscapes || wanted != fieldUserID {
		return d.peekMembers(data, wanted, identifier, p)
	}
	const name = "user_id"
	at := findName(data, name)
	if at < 0 {
		return false
	}
	isFirst := at <= len(`{"`) // of the members; else there may be others of that name
	if !isFirst && findName(data[at+len(name):], name) >= 0 {
		return d.peekMembers(data, wanted, identifier, p)
	}
	i := space(data, at+len(name)+1)
	if i >= len(data) || data[i] != ':' {
		return false
	}
	if i = space(data, i+1); i >= len(data) || data[i] != '"' {
		return false
	}
	p.UserID, i = d.text(data, i)
	return i >= 0
}

// peekMembers walks the record's members until it has seen those wanted.
func (d *Decoder) peekMembers(data []byte, wanted int, identifier string, p *Peek) bool {
	at := space(data, 0)
	if at >= len(data) || data[at] != '{' {
		return false
	}
	i, more := d.firstMember(data, at)
	for more {
		var key string
		if key, i = d.key(data, i); i < 0 {
			return false
		}
		field := fieldOf(key) & wanted
		switch {
		case field == 0, data[i] == 'n':
			i = d.pass(data, i)
		case field == fieldSegments:
			p.HasSegments = true
			i = d.pass(data, i)
		case field == fieldUserID && data[i] == '"':
			p.UserID, i = d.text(data, i)
		case field == fieldIdentifiers && data[i] == '{':
			i = d.peekMember(data, i, identifier, &p.Identifier)
		default: // of the wrong type
			return false
		}
		if i < 0 {
			return false
		}
		// A key comes once, or the record is not accepted.
		if wanted &^= field; wanted == 0 {
			return true
		}
		i, more = d.nextMember(data, i)
	}
	return i >= 0
}

// findName returns where a name stands between quotes in a text without escapes, at the
// name itself; less than 0 if nowhere. It searches for the byte of the name that other
// words have least often, which is several times faster than to walk, or to search for
// the name with its quotes.
func findName(data []byte, name string) int {
	rare := 0
	for i := range len(name) {
		if rarity[name[i]] > rarity[name[rare]] {
			rare = i
		}
	}
	for from := rare + 1; from < len(data); {
		i := bytes.IndexByte(data[from:], name[rare])
		if i < 0 {
			return -1
		}
		i += from
		from = i + 1
		start, end := i-rare, i-rare+len(name)
		if end < len(data) && data[start-1] == '"' && data[end] == '"' && string(data[start:end]) == name {
			return start
		}
	}
	return -1
}

// rarity ranks bytes by how seldom they are in the keys and values of activities; 0 are
// the most frequent.
var rarity = func() (r [256]uint8) {
	for i := range r {
		r[i] = 100 // what is not below is no letter of a usual name
	}
	for i, c := range []byte("\": ,0123456789etaionsr_ldcuhmpfgybvwkxjqz") {
		r[c] = uint8(i)
	}
	return r
}()

// peekMember reads the string under one key of the object at data[at].
func (d *Decoder) peekMember(data []byte, at int, name string, to *string) int {
	i, more := d.firstMember(data, at)
	for more {
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		if key == name && data[i] == '"' {
			*to, i = d.text(data, i)
		} else {
			i = d.pass(data, i)
		}
		if i < 0 {
			return i
		}
		i, more = d.nextMember(data, i)
	}
	return i
}

// peekData finds the data of an event in structured mode; less than 0 if it has none.
func (d *Decoder) peekData(event []byte) int {
	at := space(event, 0)
	if at >= len(event) || event[at] != '{' {
		return -1
	}
	i, more := d.firstMember(event, at)
	for more {
		var key string
		if key, i = d.key(event, i); i < 0 {
			return i
		}
		if key == "data" && event[i] != 'n' {
			return i
		}
		if i = d.pass(event, i); i < 0 {
			return i
		}
		i, more = d.nextMember(event, i)
	}
	return -1
}

// pass goes over the value at data[i]. It finds the end of any value that is one, and
// doesn't find out whether it is.
func (d *Decoder) pass(data []byte, i int) int {
	switch data[i] {
	case '"':
		return d.passText(data, i)
	case '{', '[':
		return d.passComposite(data, i)
	}
	for i < len(data) {
		switch data[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

// passText goes over the string whose opening quote is data[at].
func (d *Decoder) passText(data []byte, at int) int {
	for i := at + 1; i < len(data); {
		if i+8 <= len(data) {
			m := quoteOrControl(binary.LittleEndian.Uint64(data[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch data[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
		i++
	}
	return d.failAt(data, len(data), "")
}

// passComposite goes over the object or array at data[at], from bracket to bracket and
// quote to quote. Braces and brackets differ in one bit, and need not be told apart.
func (d *Decoder) passComposite(data []byte, at int) int {
	depth := 0
	for i := at; i < len(data); {
		if i+8 <= len(data) {
			m := quoteOrBracket(binary.LittleEndian.Uint64(data[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch data[i] {
		case '"':
			if i = d.passText(data, i); i < 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return d.failAt(data, len(data), "")
}

// quoteOrBracket marks quotes, braces and brackets as quoteOrControl does.
func quoteOrBracket(w uint64) uint64 {
	quote := w ^ (ones * '"')
	folded := w | ones*0x20
	opening := folded ^ (ones * '{')
	closing := folded ^ (ones * '}')
	return ((quote-ones)&^quote | (opening-ones)&^opening | (closing-ones)&^closing) & highs
}
