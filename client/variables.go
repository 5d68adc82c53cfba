package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Variables are the typed variables of a flag: a JSON object, which is parsed only
// when somebody asks. The zero value has none. It is immutable.
// Source: decide.md section 5.
type Variables struct{ text string }

// JSON is the object as text, "{}" when there are none.
func (v Variables) JSON() string {
	if v.text == "" {
		return "{}"
	}
	return v.text
}

// String is the object as text.
func (v Variables) String() string { return v.JSON() }

// MarshalJSON gives the object.
func (v Variables) MarshalJSON() ([]byte, error) { return []byte(v.JSON()), nil }

// Map parses the variables into a map of the caller's own. A boolean is a bool, a
// string a string, a double a float64, an integer an int64 (a json.Number if it
// doesn't fit); inside of JSON variables the same holds for numbers, arrays are
// []any and objects map[string]any. A value that the datafile has wrong is nil.
func (v Variables) Map() map[string]any {
	tree, err := parseJSON(v.JSON())
	if err != nil {
		panic("BUG: variables of a decision: " + err.Error())
	}
	object, _ := tree.(map[string]any)
	return object
}

// Get returns one variable, of the type [Variables.Map] gives it; false if there
// is none of that key.
func (v Variables) Get(key string) (value any, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(v.JSON()), &members) != nil {
		panic("BUG: variables of a decision")
	}
	text, ok := members[key]
	if !ok {
		return nil, false
	}
	value, err := parseJSON(string(text))
	if err != nil {
		panic("BUG: variables of a decision: " + err.Error())
	}
	return value, true
}

// Unmarshal stores the variables in a struct or map as encoding/json does.
func (v Variables) Unmarshal(target any) error {
	if err := json.Unmarshal([]byte(v.JSON()), target); err != nil {
		return fmt.Errorf("unmarshal variables: %w", err)
	}
	return nil
}

// parseJSON parses one value, its numbers as int64, float64 or json.Number.
func parseJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return typed(tree), nil
}

func typed(tree any) any {
	switch t := tree.(type) {
	case json.Number:
		return typedNumber(t)
	case []any:
		for i := range t {
			t[i] = typed(t[i])
		}
	case map[string]any:
		for k := range t {
			t[k] = typed(t[k])
		}
	}
	return tree
}

func typedNumber(n json.Number) any {
	if !bytes.ContainsAny([]byte(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return i
		}
		return n
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return n
}
