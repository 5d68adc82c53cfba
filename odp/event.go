package odp

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"unicode/utf8"
)

// An Event is an event for ODP. Source: odp.md section 5.
type Event struct {
	Type        string            // "" stands for fullstack
	Action      string            // required
	Identifiers map[string]string // at least one, values not empty; not changed
	// Data values are strings, numbers, booleans and nil; not changed. They win over
	// the data that all events carry.
	Data map[string]any
	// ID is the idempotence id. "": one is made. Streams give one derived from the
	// input, so that a repeat is recognised.
	ID string
}

// DefaultType is the type of events without one; Identified is the action of those
// that tie identifiers together. Source: odp.md section 5.2, OD-28.
const (
	DefaultType = "fullstack"
	Identified  = "identified"
)

// Sender names who sends events, in their data. Source: odp.md OD-20.
type Sender struct{ Name, Version string }

// AppendEvent appends an event as ODP takes it: identifiers with the alias renamed,
// data completed, all in an order that depends on the content only. The errors are
// [ErrInvalidEvent]; e.ID must not be "". Source: odp.md OD-20, OD-25, OD-P7 to OD-P9.
func AppendEvent(dst []byte, e *Event, by Sender) ([]byte, error) {
	if err := e.checkHead(); err != nil {
		return dst, err
	}
	identifiers, err := e.identifiers()
	if err != nil {
		return dst, err
	}
	if e.ID == "" {
		return dst, invalidEvent("it has no idempotence id")
	}
	data, err := e.data(by)
	if err != nil {
		return dst, err
	}
	kind := e.Type
	if kind == "" {
		kind = DefaultType
	}
	b := bytes.NewBuffer(dst)
	b.WriteString(`{"type":`)
	writeText(b, kind)
	b.WriteString(`,"action":`)
	writeText(b, e.Action)
	b.WriteString(`,"identifiers":{`)
	for i, name := range slices.Sorted(maps.Keys(identifiers)) {
		writeName(b, i, name)
		writeText(b, identifiers[name])
	}
	b.WriteString(`},"data":{`)
	for i, m := range data {
		writeName(b, i, m.name)
		writeJSON(b, m.value)
	}
	b.WriteString(`}}`)
	return b.Bytes(), nil
}

func invalidEvent(detail string) error { return &Error{Class: InvalidEvent, Detail: detail} }

// checkHead is checks 2 and 3 of odp.md section 5.2.
func (e *Event) checkHead() error {
	switch {
	case e.Action == "":
		return invalidEvent("the action must not be empty")
	case len(e.Identifiers) == 0:
		return invalidEvent("there must be an identifier")
	}
	return nil
}

// identifiers renames the alias of fs_user_id and checks the values. The caller's map
// stays as it is. Source: odp.md OD-P7, OD-P9.
func (e *Event) identifiers() (map[string]string, error) {
	out := maps.Clone(e.Identifiers)
	if out[FSUserID] == "" {
		for _, name := range slices.Sorted(maps.Keys(out)) {
			if name != FSUserID && isUserID(name) {
				out[FSUserID] = out[name]
				delete(out, name)
				break
			}
		}
	}
	for name, value := range out {
		if value == "" {
			return nil, invalidEvent("an identifier is empty")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, invalidEvent("an identifier is not UTF-8")
		}
	}
	return out, nil
}

type member struct {
	name  string
	value any
}

// data is what all events carry, then what this one does, by name.
func (e *Event) data(by Sender) ([]member, error) {
	members := []member{
		{"idempotence_id", e.ID}, {"data_source_type", "sdk"}, {"data_source", by.Name}, {"data_source_version", by.Version},
	}
	for _, name := range slices.Sorted(maps.Keys(e.Data)) {
		value, ok := scalar(e.Data[name])
		if !ok {
			return nil, invalidEvent("data values must be strings, finite numbers, booleans or null")
		}
		if i := slices.IndexFunc(members[:4], func(m member) bool { return m.name == name }); i >= 0 {
			members[i].value = value
			continue
		}
		members = append(members, member{name, value})
	}
	return members, nil
}

// scalar returns a value that JSON has a scalar for. Source: odp.md check 8, OD-P8.
func scalar(value any) (any, bool) {
	switch v := value.(type) {
	case nil, string, bool, int, int64:
		return v, true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case json.Number:
		_, err := json.Marshal(v)
		return v, err == nil && v != ""
	}
	r := reflect.ValueOf(value)
	switch r.Kind() {
	case reflect.String:
		return r.String(), true
	case reflect.Bool:
		return r.Bool(), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int(), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return r.Uint(), true
	case reflect.Float32:
		f := r.Float()
		return float32(f), !math.IsNaN(f) && !math.IsInf(f, 0)
	case reflect.Float64:
		f := r.Float()
		return f, !math.IsNaN(f) && !math.IsInf(f, 0)
	default:
		return nil, false
	}
}

func writeName(b *bytes.Buffer, i int, name string) {
	if i > 0 {
		b.WriteByte(',')
	}
	writeText(b, name)
	b.WriteByte(':')
}

// writeJSON writes a scalar, without escapes for HTML. What it does itself is what the
// standard encoder writes, sooner.
func writeJSON(b *bytes.Buffer, value any) {
	switch v := value.(type) {
	case string:
		writeText(b, v)
	case json.Number: // checked by scalar
		b.WriteString(string(v))
	default:
		encode(b, v)
	}
}

func writeText(b *bytes.Buffer, s string) {
	if !isPlain(s) {
		encode(b, s)
		return
	}
	b.WriteByte('"')
	b.WriteString(s)
	b.WriteByte('"')
}

func encode(b *bytes.Buffer, value any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("BUG: a scalar that was checked: " + err.Error())
	}
	b.Truncate(b.Len() - 1) // the newline
}

// isPlain tells whether JSON takes a text as it is.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
