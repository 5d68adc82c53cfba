package decision

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// A variableType decides how the text of a variable becomes a value.
type variableType uint8

const (
	variableString variableType = iota
	variableBoolean
	variableInteger
	variableDouble
	variableJSON
)

var variableNames = [...]string{"string", "boolean", "integer", "double", "json"}

// variableKind normalises type and subType; what is unknown is a string.
// Source: datafile.md DF-13.
func variableKind(typ, subType string) variableType {
	if typ == "string" && subType == "json" {
		typ = "json"
	}
	for i, name := range variableNames {
		if name == typ {
			return variableType(i)
		}
	}
	return variableString
}

// renderVariables renders a flag's variables as one JSON object, in the flag's
// order: the usage of the variation if it is enabled and has one, else the
// default. Source: decide.md DC-26.
func renderVariables(variables []variable, isEnabled bool, usages map[string]string) string {
	dst := []byte{'{'}
	for i := range variables {
		v := &variables[i]
		text := v.fallback
		if isEnabled {
			if usage, ok := usages[v.id]; ok {
				text = usage
			}
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, v.key), ':')
		dst = v.kind.appendJSON(dst, text)
	}
	return string(append(dst, '}'))
}

// appendJSON appends the typed value of text; what can't be parsed is null,
// except that a boolean is then false. Source: decide.md DC-27, DC-P4.
func (k variableType) appendJSON(dst []byte, text string) []byte {
	switch k {
	case variableBoolean:
		return strconv.AppendBool(dst, text == "true")
	case variableInteger:
		return appendInteger(dst, text)
	case variableDouble:
		if f, ok := parseDecimal(text); ok {
			return appendFloat(dst, f)
		}
	case variableJSON:
		return appendCompact(dst, text)
	case variableString:
		return appendString(dst, text)
	}
	return append(dst, "null"...)
}

// appendInteger appends a decimal integer of any size, digit for digit.
func appendInteger(dst []byte, text string) []byte {
	s := strings.TrimSpace(text)
	isNegative := strings.HasPrefix(s, "-")
	if isNegative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	s, ok := joinDigits(s)
	if !ok {
		return append(dst, "null"...)
	}
	s = strings.TrimLeft(s, "0")
	switch {
	case s == "":
		return append(dst, '0')
	case isNegative:
		dst = append(dst, '-')
	}
	return append(dst, s...)
}

// appendCompact appends JSON text without white space, numbers digit for digit.
// Of repeated keys the last one counts, as in the SDKs. Text with a number that is
// no finite double is null, like one with NaN (DC-P4): many readers of records
// refuse such a number.
func appendCompact(dst []byte, text string) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return append(dst, "null"...)
	}
	clean := b.Bytes()
	if hasRepeatedKeys(clean) {
		tree, err := parseTree(clean)
		if err == nil {
			if again, err := json.Marshal(tree); err == nil {
				clean = again
			}
		}
	}
	if hasInfinite(clean) {
		return append(dst, "null"...)
	}
	return append(dst, clean...)
}

// hasInfinite tells whether a number in valid JSON overflows a double. Integers
// don't: they have any size.
func hasInfinite(text []byte) bool {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			i = skipString(text, i)
		case c == '-' || c-'0' <= 9:
			end := skipValue(text, i)
			literal := string(text[i:end])
			i = end
			if !isDigits(strings.TrimPrefix(literal, "-")) {
				if _, err := strconv.ParseFloat(literal, 64); err != nil {
					return true
				}
			}
		default:
			i++
		}
	}
	return false
}

// hasRepeatedKeys tells whether any object in valid JSON has a key twice.
func hasRepeatedKeys(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	type level struct {
		keys  map[string]bool // nil in an array
		isKey bool
	}
	var stack []level
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		top := len(stack) - 1
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				stack = append(stack, level{map[string]bool{}, true})
				continue
			case '[':
				stack = append(stack, level{})
				continue
			default:
				stack = stack[:top]
				top--
			}
		case string:
			if top >= 0 && stack[top].keys != nil && stack[top].isKey {
				if stack[top].keys[t] {
					return true
				}
				stack[top].keys[t], stack[top].isKey = true, false
				continue
			}
		}
		if top >= 0 {
			stack[top].isKey = true
		}
	}
}

// parseDecimal parses the SDKs' grammar of decimal numbers: white space around,
// a sign, digits with an optional point and exponent, single underscores between
// digits. A value that isn't finite is refused.
// Source: decide.md DC-27, events.md EV-30, EV-P7.
func parseDecimal(text string) (float64, bool) {
	s := strings.TrimSpace(text)
	clean := make([]byte, 0, len(s))
	i := 0
	digits := func() bool { // a run of digits with single underscores inside; may be empty
		start := i
		for i < len(s) {
			switch {
			case s[i]-'0' <= 9:
				clean = append(clean, s[i])
			case s[i] == '_' && i > start && s[i-1] != '_' && i+1 < len(s) && s[i+1]-'0' <= 9:
			default:
				return i > start
			}
			i++
		}
		return i > start
	}
	sign := func() {
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			clean = append(clean, s[i])
			i++
		}
	}
	sign()
	hasDigits := digits()
	if i < len(s) && s[i] == '.' {
		clean = append(clean, '.')
		i++
		hasDigits = digits() || hasDigits
	}
	if !hasDigits {
		return 0, false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		clean = append(clean, 'e')
		i++
		sign()
		if !digits() {
			return 0, false
		}
	}
	if i < len(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(clean), 64)
	if err != nil || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// joinDigits drops single underscores between digits; false if s is anything
// but digits.
func joinDigits(s string) (string, bool) {
	if s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return "", false
	}
	s = strings.ReplaceAll(s, "_", "")
	return s, isDigits(s)
}
