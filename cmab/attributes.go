package cmab

import (
	"bytes"
	"crypto/md5" // what the Python SDK hashes attributes with; nothing depends on its strength
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"sortition/decision"
)

// Attributes are what is sent and hashed of a user. They are reused, and read once
// per prediction.
type attributes struct {
	list []attribute // in the rule's order
	sent []byte      // values as JSON, as they came
	text []byte      // scratch: what is hashed
	sort []int       // scratch: list by id
}

type attribute struct {
	id         string
	start, end int // in sent
	isNumber   bool
}

var attributePool = sync.Pool{New: func() any { return new(attributes) }}

// maxPooled keeps one huge attribute value from staying in memory for ever.
const maxPooled = 64 << 10

func (a *attributes) free() {
	clear(a.list) // the ids are somebody's datafile
	a.list, a.sort = a.list[:0], a.sort[:0]
	if cap(a.sent)+cap(a.text) <= maxPooled {
		attributePool.Put(a)
	}
}

// read takes the values the service can take: texts, booleans, and numbers up to
// 2^53. An id met twice counts once. It returns how many it left out.
// Source: cmab.md CM-6, CM-P4.
func (a *attributes) read(list []decision.PredictionAttribute) (dropped int) {
	a.list, a.sent, a.sort = a.list[:0], a.sent[:0], a.sort[:0]
	for i := range list {
		in := &list[i]
		start := len(a.sent)
		kind := in.Value.Kind()
		isUsable := kind == decision.KindString || kind == decision.KindBool
		if kind == decision.KindNumber || isUsable {
			a.sent = in.Value.AppendJSON(a.sent)
		}
		if kind == decision.KindNumber {
			isUsable = isInRange(a.sent[start:])
		}
		if !isUsable {
			a.sent = a.sent[:start]
			dropped++
			continue
		}
		if slices.ContainsFunc(a.list, func(x attribute) bool { return x.id == in.ID }) {
			a.sent = a.sent[:start]
			continue
		}
		a.list = append(a.list, attribute{in.ID, start, len(a.sent), kind == decision.KindNumber})
	}
	return dropped
}

// isInRange tells whether a JSON number is one up to 2^53; not for "null", which
// stands for what JSON has no number for.
func isInRange(literal []byte) bool {
	const limit = 1 << 53
	if isInteger(literal) {
		n, err := strconv.ParseInt(string(literal), 10, 64)
		return err == nil && -limit <= n && n <= limit
	}
	f, err := strconv.ParseFloat(string(literal), 64)
	return err == nil && math.Abs(f) <= limit
}

func isInteger(literal []byte) bool { return !bytes.ContainsAny(literal, ".eEn") }

// hash is the MD5 of the attributes as Python's json.dumps prints them with sorted
// keys. Source: cmab.md CM-12.
func (a *attributes) hash() Hash {
	for i := range a.list {
		a.sort = append(a.sort, i)
	}
	slices.SortFunc(a.sort, func(i, j int) int { return strings.Compare(a.list[i].id, a.list[j].id) })
	t := append(a.text[:0], '{')
	for n, i := range a.sort {
		if n > 0 {
			t = append(t, ", "...)
		}
		x := &a.list[i]
		start := len(t)
		t = decision.String(x.id).AppendJSON(t)
		t = appendASCII(t[:start], t[start:])
		t = append(t, ": "...)
		if value := a.sent[x.start:x.end]; x.isNumber {
			t = appendPythonNumber(t, value)
		} else {
			t = appendASCII(t, value)
		}
	}
	a.text = append(t, '}')
	return md5.Sum(a.text)
}

// appendPythonNumber prints a number as Python's repr does.
func appendPythonNumber(dst, literal []byte) []byte {
	if isInteger(literal) {
		if string(literal) == "-0" {
			return append(dst, '0')
		}
		return append(dst, literal...)
	}
	f, _ := strconv.ParseFloat(string(literal), 64) // read before
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if !bytes.ContainsRune(dst[start:], '.') {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendASCII appends JSON text as json.dumps writes it: beyond ASCII, and for the
// delete character, escapes. text may be the room behind dst if it is all ASCII.
func appendASCII(dst, text []byte) []byte {
	isPlain := true
	for _, c := range text {
		isPlain = isPlain && c < 0x7f && c != '\\'
	}
	if isPlain {
		return append(dst, text...)
	}
	text = bytes.Clone(text)
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\\' && bytes.HasPrefix(text[i:], []byte(`\u0008`)):
			dst = append(dst, `\b`...)
			i += 6
		case c == '\\' && bytes.HasPrefix(text[i:], []byte(`\u000c`)):
			dst = append(dst, `\f`...)
			i += 6
		case c == '\\':
			dst = append(dst, c, text[i+1])
			i += 2
		case c < 0x7f:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRune(text[i:])
			i += size
			if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
				dst = appendEscape(appendEscape(dst, high), low)
			} else {
				dst = appendEscape(dst, r)
			}
		}
	}
	return dst
}

func appendEscape(dst []byte, unit rune) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}
