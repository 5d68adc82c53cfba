package decision

import (
	"encoding/json"
	"math"
	"strconv"
)

// A Conversion is the event that a user did something: a value, without the id
// and time that whoever sends it gives. Source: events.md sections 4 and 7.
type Conversion struct {
	EntityID string // the datafile event's id
	Key      string
	Tags     []byte  // JSON object as given, less what EV-4 strips; nil: none
	Revenue  string  // integer literal, "" if there is no valid one (EV-28)
	Value    float64 // EV-29
	HasValue bool
}

// Conversion makes the event of a key; false if the datafile has no such event,
// and nothing must be sent then. tags is a valid JSON object, or nil for none;
// anything but an object counts as none. The conversion may alias tags.
// Source: events.md EV-13, EV-14, EV-27 to EV-31, EV-P4, EV-P5.
func (p *Project) Conversion(key string, tags []byte) (Conversion, bool) {
	id, ok := p.events[key]
	if !ok || key == "" {
		return Conversion{}, false
	}
	c := Conversion{EntityID: id, Key: key}
	if i := skipSpace(tags, 0); i == len(tags) || tags[i] != '{' {
		return c, true
	}
	c.Tags = stripNulls(tags)
	eachMember(tags, func(quoted, value []byte) {
		switch memberName(quoted) {
		case "revenue":
			c.Revenue = ""
			if isIntegerLiteral(value) {
				c.Revenue = string(value)
			}
		case "value":
			c.Value, c.HasValue = numericTag(value)
		}
	})
	return c, true
}

// AppendVisitor appends the conversion as a visitor object of an event batch;
// the parameters are those of [Impression.AppendVisitor].
func (c *Conversion) AppendVisitor(dst []byte, u *User, uuid string, timestamp int64) []byte {
	dst = u.appendVisitorHead(dst)
	dst = append(dst, `"events":[{"entity_id":`...)
	dst = appendString(dst, c.EntityID)
	dst = append(dst, `,"key":`...)
	dst = appendString(dst, c.Key)
	dst = append(dst, `,"uuid":"`...)
	dst = append(dst, uuid...)
	dst = append(dst, `","timestamp":`...)
	dst = strconv.AppendInt(dst, timestamp, 10)
	if c.Revenue != "" {
		dst = append(dst, `,"revenue":`...)
		dst = append(dst, c.Revenue...)
	}
	if c.HasValue {
		dst = append(dst, `,"value":`...)
		dst = appendFloat(dst, c.Value)
	}
	if c.Tags != nil {
		dst = append(dst, `,"tags":`...)
		dst = append(dst, c.Tags...)
	}
	return append(dst, `}]}]}`...)
}

func isIntegerLiteral(value []byte) bool {
	if len(value) > 0 && value[0] == '-' {
		value = value[1:]
	}
	return isDigits(string(value))
}

// numericTag reads the "value" tag: a number, or text in the decimal grammar.
// Source: events.md EV-29, EV-30.
func numericTag(value []byte) (float64, bool) {
	switch c := value[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(value, &s) != nil {
			return 0, false
		}
		return parseDecimal(s)
	case c == '-' || c-'0' <= 9:
		f, err := strconv.ParseFloat(string(value), 64)
		return f, err == nil && !math.IsInf(f, 0)
	default:
		return 0, false
	}
}
