package decision

import (
	"math"
	"strconv"
	"strings"
)

// maxSafe is the largest magnitude that conditions and events accept, inclusive.
// Source: audiences.md section 5 ("in range"), events.md EV-22.
const maxSafe = 1 << 53

// A Kind is the JSON type of an attribute value.
type Kind uint8

// The kinds of a [Value].
const (
	KindNull      Kind = iota // JSON null: counts as absent, except for bandits
	KindBool                  // true, false
	KindNumber                // integer or float
	KindString                // text
	KindComposite             // array or object: only its existence can be asked for
)

// A Value is an attribute value. The zero Value is null. It is small, is copied
// freely and aliases the strings it was made of.
type Value struct {
	text    string // text of a string, literal of a number ("" if made from a Go number), raw JSON of a composite
	num     float64
	epoch   uint32 // of the User slot it stands in
	kind    Kind
	isTrue  bool
	isInt   bool
	inRange bool // a finite number with |x| <= 2^53
}

// Null is JSON null.
func Null() Value { return Value{} }

// Bool is a JSON boolean.
func Bool(b bool) Value { return Value{kind: KindBool, isTrue: b} }

// String is a JSON string.
func String(s string) Value { return Value{kind: KindString, text: s} }

// Composite is a JSON array or object given by its raw text.
func Composite(raw string) Value { return Value{kind: KindComposite, text: raw} }

// Int is an integer, as the literal strconv would print.
func Int(n int64) Value {
	if n < -maxSafe || n > maxSafe {
		return Number(strconv.FormatInt(n, 10))
	}
	return Value{kind: KindNumber, num: float64(n), isInt: true, inRange: true}
}

// Float is a floating-point number; it stays one even when it has no fraction.
func Float(f float64) Value {
	return Value{kind: KindNumber, num: f, inRange: math.Abs(f) <= maxSafe} // false for NaN
}

// Number is a number given as its JSON literal, which is kept. The literal
// decides whether it is an integer (digits only) or a float; integers are
// compared with 2^53 exactly. Text that is no number gives null.
// Source: audiences.md AU-19, events.md EV-P5.
func Number(literal string) Value {
	v := Value{kind: KindNumber, text: literal}
	// Up to 15 characters, digits with at most one point among them, are exact in a double,
	// and so is the power of ten to divide by: no parser could be more right.
	i, isNegative := 0, false
	if literal != "" && literal[0] == '-' {
		i, isNegative = 1, true
	}
	start, point := i, -1
	var n int64
	for ; i < len(literal); i++ {
		c := literal[i] - '0'
		if c <= 9 {
			n = n*10 + int64(c)
		} else if literal[i] == '.' && point < 0 && i > start {
			point = i
		} else {
			return slowNumber(v)
		}
		if i-start >= 15 {
			return slowNumber(v)
		}
	}
	if i == start || point == i-1 || literal[start] == '0' && i-start > 1 && point != start+1 {
		return slowNumber(v)
	}
	v.num, v.isInt, v.inRange = float64(n), point < 0, true
	if point >= 0 {
		v.num /= powersOfTen[i-point-1]
	}
	if isNegative {
		v.num = -v.num
	}
	return v
}

var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

func slowNumber(v Value) Value {
	if !isNumberLiteral(v.text) { // ParseFloat takes more: "0x1p4", "inf", ".5"
		return Value{}
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return Value{}
	}
	digits := strings.TrimPrefix(v.text, "-")
	v.num, v.isInt = f, isDigits(digits)
	if v.isInt {
		n, err := strconv.ParseUint(digits, 10, 64)
		v.inRange = err == nil && n <= maxSafe
	} else {
		v.inRange = math.Abs(f) <= maxSafe
	}
	return v
}

// isNumberLiteral tells whether s is a number in the grammar of JSON.
func isNumberLiteral(s string) bool {
	digits := func() bool {
		n := len(s)
		for s != "" && s[0]-'0' <= 9 {
			s = s[1:]
		}
		return len(s) < n
	}
	s = strings.TrimPrefix(s, "-")
	if strings.HasPrefix(s, "0") {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if strings.HasPrefix(s, ".") {
		if s = s[1:]; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// Kind tells which of the accessors below has the content.
func (v Value) Kind() Kind { return v.kind }

// AppendJSON appends the value as JSON. Literals and raw texts are appended as
// they came; a number JSON has no form for (NaN, infinite) becomes null.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case KindBool:
		return strconv.AppendBool(dst, v.isTrue)
	case KindString:
		return appendString(dst, v.text)
	case KindComposite:
		return append(dst, v.text...)
	case KindNumber:
		switch {
		case v.text != "":
			return append(dst, v.text...)
		case v.isInt:
			return strconv.AppendInt(dst, int64(v.num), 10)
		case !math.IsNaN(v.num) && !math.IsInf(v.num, 0):
			return appendFloat(dst, v.num)
		}
	case KindNull:
	}
	return append(dst, "null"...)
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return s != ""
}
