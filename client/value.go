package client

import (
	"encoding"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"sortition/decision"
)

// value.go turns Go values into what decisions and events take: attribute values,
// and JSON in which a float stays recognisable as one.

// valueOf makes an attribute value. Integers, floats, booleans and strings of any
// named type, json.Number and pointers to these count as what they are; what else
// JSON can express as it expresses it; the rest as an object. NaN and infinities
// are numbers that no condition accepts and no event carries.
// Source: decide.md DC-42, DC-43, audiences.md section 5, events.md EV-22.
func valueOf(given any) decision.Value {
	switch v := given.(type) {
	case nil:
		return decision.Null()
	case string:
		return decision.String(v)
	case bool:
		return decision.Bool(v)
	case int:
		return decision.Int(int64(v))
	case int64:
		return decision.Int(v)
	case float64:
		return decision.Float(v)
	case json.Number:
		return decision.Number(string(v))
	}
	v := reflect.ValueOf(given)
	kind := v.Kind()
	if marshalsItself(given) {
		kind = reflect.Struct
	}
	switch kind {
	case reflect.Bool:
		return decision.Bool(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return decision.Int(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return decision.Number(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32:
		return decision.Float(widen(float32(v.Float())))
	case reflect.Float64:
		return decision.Float(v.Float())
	case reflect.String:
		return decision.String(v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return decision.Null()
		}
		return valueOf(v.Elem().Interface())
	default:
	}
	text, err := json.Marshal(given)
	if err != nil {
		return decision.Composite("{}") // something is there; what it is cannot be said
	}
	switch c := text[0]; c {
	case 'n':
		return decision.Null()
	case 't', 'f':
		return decision.Bool(c == 't')
	case '"':
		var s string
		if json.Unmarshal(text, &s) != nil {
			panic("BUG: a string of encoding/json that it can't read")
		}
		return decision.String(s)
	case '[', '{':
		return decision.Composite(string(text))
	default:
		return decision.Number(string(text))
	}
}

// marshalsItself tells whether a value has a form of its own in JSON.
func marshalsItself(given any) bool {
	switch given.(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return true
	}
	return false
}

// widen gives a float32 the float64 that prints like it: 0.1, not 0.10000000149.
func widen(f float32) float64 {
	if wide := float64(f); math.IsNaN(wide) || math.IsInf(wide, 0) {
		return wide
	}
	wide, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	return wide
}

// maxDepth bounds nesting, so that a map that holds itself ends.
const maxDepth = 200

// appendTags appends event tags as a JSON object, keys in order, and counts the
// tags that JSON has no form for (NaN, infinities, channels, …), which are left
// out. Source: events.md EV-27, EV-P6.
func appendTags(dst []byte, tags map[string]any) (out []byte, dropped int) {
	dst = append(dst, '{')
	isFirst := true
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		start := len(dst)
		if !isFirst {
			dst = append(dst, ',')
		}
		dst = append(decision.String(key).AppendJSON(dst), ':')
		var ok bool
		if dst, ok = appendJSON(dst, tags[key], 0); !ok {
			dst = dst[:start]
			dropped++
			continue
		}
		isFirst = false
	}
	return append(dst, '}'), dropped
}

// appendJSON appends a value; false if JSON has no form for it or a part of it.
func appendJSON(dst []byte, given any, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return dst, false
	}
	switch v := given.(type) {
	case map[string]any:
		if v == nil {
			return append(dst, "null"...), true
		}
		dst = append(dst, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(decision.String(key).AppendJSON(dst), ':')
			var ok bool
			if dst, ok = appendJSON(dst, v[key], depth+1); !ok {
				return dst, false
			}
		}
		return append(dst, '}'), true
	case []any:
		if v == nil {
			return append(dst, "null"...), true
		}
		dst = append(dst, '[')
		for i := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			var ok bool
			if dst, ok = appendJSON(dst, v[i], depth+1); !ok {
				return dst, false
			}
		}
		return append(dst, ']'), true
	case json.Number:
		if n := decision.Number(string(v)); n.Kind() == decision.KindNumber {
			return n.AppendJSON(dst), true
		}
		return dst, false
	}
	v := reflect.ValueOf(given)
	kind := v.Kind()
	if marshalsItself(given) {
		kind = reflect.Struct
	}
	switch kind {
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, false
		}
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return dst, false
	case reflect.Map, reflect.Slice, reflect.Array, reflect.Struct, reflect.Pointer:
		text, err := json.Marshal(given)
		return append(dst, text...), err == nil
	default:
	}
	return valueOf(given).AppendJSON(dst), true
}
