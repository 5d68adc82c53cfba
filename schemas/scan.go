package schemas

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// The scanning calls below take the record and the index to read at and return
// the index after what they read, or -1 once they have noted the fault with
// fail. UTF-8 has been checked for the whole record before any of them runs.

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// quoteOrControl marks, with the high bit of its byte, the quotes, backslashes
// and control characters among the eight bytes of w. Only the lowest mark is
// exact, which is the one a scan wants: the borrows that could set a wrong
// mark all come from a right one below.
func quoteOrControl(w uint64) uint64 {
	quote := w ^ (ones * '"')
	slash := w ^ (ones * '\\')
	return ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*0x20)&^w) & highs
}

// text reads the string whose opening quote is data[at]. Without escapes the
// result aliases data, otherwise the decoder's text buffer.
func (d *Decoder) text(data []byte, at int) (string, int) {
	start := at + 1
	i := start
	for i+8 <= len(data) {
		if m := quoteOrControl(binary.LittleEndian.Uint64(data[i:])); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			if data[i] == '"' {
				return alias(data[start:i]), i + 1
			}
			return d.textSlow(data, start, i)
		}
		i += 8
	}
	for i < len(data) {
		c := data[i]
		if c == '"' {
			return alias(data[start:i]), i + 1
		}
		if c == '\\' || c < 0x20 {
			break
		}
		i++
	}
	return d.textSlow(data, start, i)
}

// textSlow goes on with a string at its first escape, control character or
// missing end, i.
func (d *Decoder) textSlow(data []byte, start, i int) (string, int) {
	mark := len(d.unescaped)
	buf := append(d.unescaped, data[start:i]...)
	for i < len(data) {
		c := data[i]
		switch {
		case c == '"':
			d.unescaped = buf
			return alias(buf[mark:]), i + 1
		case c < 0x20:
			return "", d.fail(RejectNotJSON, i, "control character in a string")
		case c != '\\':
			buf = append(buf, c)
			i++
		default:
			r, next, ok := unescape(data, i)
			if !ok {
				return "", d.failEscape(next, i)
			}
			buf = utf8.AppendRune(buf, r)
			i = next
		}
	}
	return "", d.fail(RejectNotJSON, len(data), "unexpected end inside a string")
}

const (
	badEscape     = -1
	loneSurrogate = -2
)

func (d *Decoder) failEscape(reason, at int) int {
	if reason == loneSurrogate {
		return d.fail(RejectNotUTF8, at, "escaped surrogate without its other half")
	}
	return d.fail(RejectNotJSON, at, "invalid escape in a string")
}

// unescape reads the escape whose backslash is data[i]. When it is none, ok is
// false and next is the reason.
func unescape(data []byte, i int) (r rune, next int, ok bool) {
	if i+1 >= len(data) {
		return 0, badEscape, false
	}
	switch data[i+1] {
	case '"', '\\', '/':
		return rune(data[i+1]), i + 2, true
	case 'b':
		return '\b', i + 2, true
	case 'f':
		return '\f', i + 2, true
	case 'n':
		return '\n', i + 2, true
	case 'r':
		return '\r', i + 2, true
	case 't':
		return '\t', i + 2, true
	case 'u':
	default:
		return 0, badEscape, false
	}
	r, ok = hex4(data, i+2)
	if !ok {
		return 0, badEscape, false
	}
	i += 6
	if !utf16.IsSurrogate(r) {
		return r, i, true
	}
	if i+1 >= len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return 0, loneSurrogate, false
	}
	low, ok := hex4(data, i+2)
	if !ok {
		return 0, badEscape, false
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, loneSurrogate, false
	}
	return r, i + 6, true
}

func hex4(data []byte, i int) (rune, bool) {
	if i+4 > len(data) {
		return 0, false
	}
	var r rune
	for _, c := range data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number reads the number that begins at data[i], a digit or a minus sign.
//
// Source: RFC 8259 section 6.
func (d *Decoder) number(data []byte, i int) int {
	end, ok := numberEnd(data, i)
	if !ok {
		return d.fail(RejectNotJSON, end, "invalid number")
	}
	return end
}

// numberEnd returns the index after the JSON number at data[i], or where it
// goes wrong.
func numberEnd[T []byte | string](data T, i int) (int, bool) {
	if i < len(data) && data[i] == '-' {
		i++
	}
	switch {
	case i >= len(data) || data[i]-'0' > 9:
		return i, false
	case data[i] == '0':
		i++
	default:
		i = digits(data, i)
	}
	if i < len(data) && data[i] == '.' {
		i++
		if j := digits(data, i); j > i {
			i = j
		} else {
			return i, false
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if j := digits(data, i); j > i {
			i = j
		} else {
			return i, false
		}
	}
	return i, true
}

func digits[T []byte | string](data T, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}

// word reads one of the words true, false and null, whose first letter the
// caller has seen at data[i].
func (d *Decoder) word(data []byte, i int, want string) int {
	if len(data)-i >= len(want) && string(data[i:i+len(want)]) == want {
		return i + len(want)
	}
	return d.fail(RejectNotJSON, i, "invalid literal")
}

// space skips white space.
func space(data []byte, i int) int {
	for i < len(data) && data[i] <= ' ' {
		if c := data[i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			break
		}
		i++
	}
	return i
}

// firstMember goes from an object's opening brace to its first key's quote.
// more is false after the closing brace, and, with i = -1, after a fault.
func (d *Decoder) firstMember(data []byte, at int) (i int, more bool) {
	i = space(data, at+1)
	if i < len(data) {
		if data[i] == '"' {
			return i, true
		}
		if data[i] == '}' {
			return i + 1, false
		}
	}
	return d.failAt(data, i, "expected a key or }"), false
}

// nextMember goes from the end of a member's value to the next key's quote, as
// firstMember does.
func (d *Decoder) nextMember(data []byte, i int) (int, bool) {
	i = space(data, i)
	if i < len(data) {
		if data[i] == '}' {
			return i + 1, false
		}
		if data[i] == ',' {
			i = space(data, i+1)
			if i < len(data) && data[i] == '"' {
				return i, true
			}
			return d.failAt(data, i, "expected a key"), false
		}
	}
	return d.failAt(data, i, "expected , or }"), false
}

// key reads the key whose quote is data[at], and the colon. The index returned
// is that of the first byte of a value, which exists.
func (d *Decoder) key(data []byte, at int) (string, int) {
	key, i := d.text(data, at)
	if i < 0 {
		return "", i
	}
	if i < len(data) && data[i] != ':' {
		i = space(data, i)
	}
	if i >= len(data) || data[i] != ':' {
		return "", d.failAt(data, i, "expected a colon")
	}
	if i = space(data, i+1); i >= len(data) {
		return "", d.failAt(data, i, "expected a value")
	}
	return key, i
}

// firstElement goes from an array's opening bracket to its first element's
// first byte, which exists, as firstMember does.
func (d *Decoder) firstElement(data []byte, at int) (i int, more bool) {
	i = space(data, at+1)
	if i >= len(data) {
		return d.failAt(data, i, "expected a value or ]"), false
	}
	if data[i] == ']' {
		return i + 1, false
	}
	return i, true
}

// nextElement goes from the end of an element to the next one, as firstElement
// does.
func (d *Decoder) nextElement(data []byte, i int) (int, bool) {
	i = space(data, i)
	if i < len(data) {
		if data[i] == ']' {
			return i + 1, false
		}
		if data[i] == ',' {
			if i = space(data, i+1); i < len(data) {
				return i, true
			}
		}
	}
	return d.failAt(data, i, "expected , or ]"), false
}

// alias returns b as a string without copying. Whoever calls it promises that
// b's bytes stay as they are for as long as the Activity is valid.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
