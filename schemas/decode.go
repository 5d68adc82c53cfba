package schemas

import (
	"unicode/utf8"
)

// Decoder reads activities. The zero value is ready. It keeps its buffers from
// record to record and allocates nothing once they have grown; it is not safe
// for concurrent use, so each worker has its own.
type Decoder struct {
	// Everything below up to keys is handed out in Activities. Decoding only
	// ever appends; Reset takes it all back.
	unescaped   []byte
	attributes  []Attribute
	pairs       []Pair
	strings     []string
	forced      []ForcedDecision
	conversions []Conversion
	odpEvents   []ODPEvent

	// keys is a stack: the keys so far of every object being read.
	keys         []string
	seen         map[objectKey]struct{}
	largeObjects int

	fault fault

	// For mapped records: where the mapping's sources stand in the record, and
	// the activities written from them, which Activities alias like the above.
	spans  []span
	mapped []byte
}

// fault is the first thing found wrong with a record. path is filled on the
// way out of the nested calls, innermost step first.
type fault struct {
	code   RejectCode
	offset int
	what   string
	path   []segment
}

// Decode reads one record into a, replacing all that a held. The error is nil
// or a *Reject, and then a must not be used.
//
// It accepts RFC 8259 JSON in valid UTF-8, without a byte order mark, and
// refuses an object anywhere in the record that has a key twice. A null field
// is an absent one.
//
// a's strings and slices alias data and the decoder's buffers. They are valid
// until the next call of Decode or Reset, and only while data is not changed.
// They may be sliced and read, not appended to in place.
func (d *Decoder) Decode(data []byte, a *Activity) error {
	d.Reset()
	return d.DecodeMore(data, a)
}

// DecodeMore is Decode for a worker that holds several activities at a time:
// all that were decoded since the last Reset stay valid, as long as their data
// does.
func (d *Decoder) DecodeMore(data []byte, a *Activity) error {
	*a = Activity{}
	if !utf8.Valid(data) {
		return newReject(RejectNotUTF8, "", "invalid UTF-8", invalidUTF8(data))
	}
	d.begin()
	if d.record(data, a) < 0 {
		return d.reject()
	}
	return nil
}

// Buffers that a rare giant record has blown up are not kept.
const (
	maxKeptBytes   = 1 << 20
	maxKeptEntries = 1 << 14
)

// Reset takes back the buffers of all activities decoded so far.
func (d *Decoder) Reset() {
	d.unescaped = reuse(d.unescaped, maxKeptBytes)
	d.mapped = reuse(d.mapped, maxKeptBytes)
	d.attributes = reuse(d.attributes, maxKeptEntries)
	d.pairs = reuse(d.pairs, maxKeptEntries)
	d.strings = reuse(d.strings, maxKeptEntries)
	d.forced = reuse(d.forced, maxKeptEntries)
	d.conversions = reuse(d.conversions, maxKeptEntries)
	d.odpEvents = reuse(d.odpEvents, maxKeptEntries)
	d.keys = reuse(d.keys, maxKeptEntries)
}

func reuse[T any](s []T, limit int) []T {
	if cap(s) > limit {
		return nil
	}
	return s[:0]
}

// begin forgets what the last record left behind in the decoder's own state.
func (d *Decoder) begin() {
	d.keys = d.keys[:0]
	if d.largeObjects > 0 {
		d.largeObjects = 0
		if len(d.seen) > maxKeptEntries {
			d.seen = nil
		}
		clear(d.seen)
	}
}

// fail notes the fault and returns -1.
func (d *Decoder) fail(code RejectCode, offset int, what string) int {
	d.fault = fault{code: code, offset: offset, what: what, path: d.fault.path[:0]}
	return -1
}

// failAt is fail for a syntax error at data[i], or at the end of data.
func (d *Decoder) failAt(data []byte, i int, what string) int {
	if i >= len(data) {
		what = "unexpected end"
	}
	return d.fail(RejectNotJSON, i, what)
}

func (d *Decoder) failDuplicate(at int, key string) int {
	d.fail(RejectDuplicateKey, at, "duplicate key")
	return d.inKey(key)
}

// inKey adds a step to the path of the fault on the way out, and returns -1.
func (d *Decoder) inKey(key string) int {
	d.fault.path = append(d.fault.path, segment{key: key})
	return -1
}

func (d *Decoder) inIndex(n int) int {
	d.fault.path = append(d.fault.path, segment{index: n, isIndex: true})
	return -1
}

// wrongType is the fault of a value of the wrong type at data[i], unless it is
// no value at all.
func (d *Decoder) wrongType(data []byte, i, depth int, what string) int {
	if d.value(data, i, depth) < 0 {
		return -1
	}
	return d.fail(RejectWrongType, i, what)
}

func (d *Decoder) reject() *Reject {
	f := &d.fault
	r := newReject(f.code, renderPath(f.path), f.what, f.offset)
	clear(f.path) // its keys alias the record
	f.path = f.path[:0]
	return r
}

func invalidUTF8(data []byte) int {
	i := 0
	for i < len(data) {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		i += size
	}
	return i
}
