package sinks

import (
	"encoding/json"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The methods here read one field of an object that stands at path, and report
// what is wrong with it. ok is false if there is no value to use.

func (c *checker) text(object map[string]any, path, name string) (s string, ok bool) {
	value, ok := object[name]
	if !ok {
		c.fail(join(path, name), CodeMissing, "is required")
		return "", false
	}
	s, ok = value.(string)
	if !ok {
		c.fail(join(path, name), CodeWrongType, "must be a string")
	}
	return s, ok
}

// textOrNull takes null for "", with a warning.
func (c *checker) textOrNull(object map[string]any, path, name string) (s string, ok bool) {
	if value, ok := object[name]; ok && value == nil {
		c.reportAt(join(path, name), CodeNullID, SeverityWarning, `null; "" is what the schema wants where there is no id`)
		return "", true
	}
	return c.text(object, path, name)
}

// id is a text that must not be empty; "" if there is none.
func (c *checker) id(object map[string]any, path, name string) string {
	s, ok := c.text(object, path, name)
	if ok && s == "" {
		c.fail(join(path, name), CodeEmptyID, "must not be empty")
	}
	return s
}

func (c *checker) boolean(object map[string]any, path, name string) (b, ok bool) {
	value, ok := object[name]
	if !ok {
		c.fail(join(path, name), CodeMissing, "is required")
		return false, false
	}
	b, ok = value.(bool)
	if !ok {
		c.fail(join(path, name), CodeWrongType, "must be true or false")
	}
	return b, ok
}

// integer reads a literal without fraction and exponent, as datafile.md 2.1
// understands the word.
func (c *checker) integer(object map[string]any, path, name string, isRequired bool) (n int64, ok bool) {
	value, ok := object[name]
	if !ok {
		if isRequired {
			c.fail(join(path, name), CodeMissing, "is required")
		}
		return 0, false
	}
	number, ok := value.(json.Number)
	if !ok || strings.ContainsAny(number.String(), ".eE") {
		c.fail(join(path, name), CodeWrongType, "must be an integer")
		return 0, false
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		c.fail(join(path, name), CodeWrongValue, "too large an integer")
	}
	return n, err == nil
}

func (c *checker) array(object map[string]any, path, name string, isRequired bool) (a []any, ok bool) {
	value, ok := object[name]
	if !ok {
		if isRequired {
			c.fail(join(path, name), CodeMissing, "is required")
		}
		return nil, false
	}
	a, ok = value.([]any)
	if !ok {
		c.fail(join(path, name), CodeWrongType, "must be an array")
	}
	return a, ok
}

// one reports an array that hasn't exactly one element.
func (c *checker) one(a []any, path string) bool {
	if len(a) != 1 {
		c.fail(path, CodeWrongCount, "must have exactly one element")
	}
	return len(a) == 1
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (c *checker) hash(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, p := range parts {
		writeText(&h, p)
	}
	return h.Sum64()
}

// contentOf hashes what makes an event what it is: all of the visitor's element,
// account and project. The revision is not in it: an activity that is worked on
// again after an update of the datafile is still the same.
func (c *checker) contentOf(visitor map[string]any) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	writeText(&h, c.accountID)
	writeText(&h, c.projectID)
	writeCanonical(&h, visitor)
	return h.Sum64()
}

// writeCanonical writes a JSON value so that equal values, whatever the order of
// their fields, give equal bytes, and different ones different bytes.
func writeCanonical(h *maphash.Hash, value any) {
	switch v := value.(type) {
	case nil:
		_ = h.WriteByte('z') // maphash never fails
	case bool:
		_, _ = h.WriteString(strconv.FormatBool(v))
	case json.Number:
		_ = h.WriteByte('n')
		writeText(h, v.String())
	case string:
		_ = h.WriteByte('s')
		writeText(h, v)
	case []any:
		_ = h.WriteByte('[')
		for _, e := range v {
			writeCanonical(h, e)
		}
		_ = h.WriteByte(']')
	case map[string]any:
		_ = h.WriteByte('{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			writeText(h, name)
			writeCanonical(h, v[name])
		}
		_ = h.WriteByte('}')
	}
}

func writeText(h *maphash.Hash, s string) {
	_, _ = h.WriteString(strconv.Itoa(len(s)))
	_ = h.WriteByte(':')
	_, _ = h.WriteString(s)
}
