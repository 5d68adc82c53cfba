package schemas

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// RejectCode says why an input record cannot be used. The set is closed: it is
// the enum of the rejects file, of the dead-letter header dl-reason and of the
// rejects metric.
type RejectCode string

// The reject codes. One record gets one code, that of the first fault in
// reading order; only invalid UTF-8 is looked for before anything else.
const (
	// RejectNotJSON is text that is not one RFC 8259 value: bad syntax, a
	// truncated record, trailing bytes, NaN, a raw control character.
	RejectNotJSON RejectCode = "not_json"
	// RejectNotUTF8 is invalid UTF-8 anywhere in the record, or an escaped
	// surrogate without its other half, which no UTF-8 text can hold.
	RejectNotUTF8 RejectCode = "not_utf8"
	// RejectDuplicateKey is an object, at any depth, that names a key twice.
	RejectDuplicateKey RejectCode = "duplicate_key"
	// RejectMissingUserID is a record without user_id, or with null there.
	RejectMissingUserID RejectCode = "missing_user_id"
	// RejectMissingField is a list element without a field it cannot do
	// without, such as an event without key.
	RejectMissingField RejectCode = "missing_field"
	// RejectWrongType is a field holding another JSON type than its own.
	RejectWrongType RejectCode = "wrong_type"
	// RejectOutOfRange is a timestamp outside the years 0000 to 9999.
	RejectOutOfRange RejectCode = "out_of_range"
	// RejectTooDeep is a record nested deeper than MaxDepth.
	RejectTooDeep RejectCode = "too_deep"
	// RejectLineTooLong is a line or row longer than the reader's limit.
	RejectLineTooLong RejectCode = "line_too_long"
	// RejectBadCSV is a CSV row with misplaced quotes or with more or fewer
	// cells than the header.
	RejectBadCSV RejectCode = "bad_csv"
	// RejectBadCloudEvent is a record whose headers call it a CloudEvent but whose
	// envelope is none, such as one without source.
	RejectBadCloudEvent RejectCode = "bad_cloudevent"
)

// RejectCodes returns every code, in the order documented above. The caller
// owns the slice.
func RejectCodes() []RejectCode {
	return []RejectCode{
		RejectNotJSON, RejectNotUTF8, RejectDuplicateKey, RejectMissingUserID, RejectMissingField,
		RejectWrongType, RejectOutOfRange, RejectTooDeep, RejectLineTooLong, RejectBadCSV,
		RejectBadCloudEvent,
	}
}

// Reject is the error for a record that can never be used, however often it is
// tried. It names fields, never their values, so it may be logged. It holds no
// reference to the record.
type Reject struct {
	Code RejectCode
	// Path is the field at fault, such as events.0.tags.sku. It is empty when
	// the fault is the record's as a whole.
	Path string
	// Detail is Path and what was wrong there, for people.
	Detail string
	// Offset is the byte in the record where reading stopped, -1 when that has
	// no meaning. For a mapped record it counts in the record as it came,
	// unless the fault is one of our field types; then it is -1.
	Offset int
}

// Error gives code, path and what was expected.
func (r *Reject) Error() string {
	if r.Detail == "" {
		return "record rejected: " + string(r.Code)
	}
	return "record rejected: " + string(r.Code) + ": " + r.Detail
}

// Is reports whether target is a *Reject with the same code, so that
// errors.Is(err, &Reject{Code: RejectNotJSON}) asks for a code.
func (r *Reject) Is(target error) bool {
	t, ok := target.(*Reject)
	return ok && t.Code == r.Code && t.Path == "" && t.Detail == ""
}

func newReject(code RejectCode, path, what string, offset int) *Reject {
	detail := what
	if path != "" {
		detail = path + ": " + what
	}
	return &Reject{Code: code, Path: path, Detail: detail, Offset: offset}
}

// LineTooLong is the reject for a record longer than limit bytes. Readers make
// it, because such a record never reaches a decoder.
func LineTooLong(limit int) *Reject {
	return newReject(RejectLineTooLong, "", "longer than "+strconv.Itoa(limit)+" bytes", -1)
}

// segment is one step of a field path: an object key, or an array index when
// key is not meant.
type segment struct {
	key     string
	index   int
	isIndex bool
}

const (
	maxSegmentText = 64
	maxPathSteps   = 16
)

// renderPath writes the steps, innermost first as failing calls leave them, in
// the dotted form of the mapping. Keys come from the record, so long ones are
// cut and unusual ones quoted, and the path ends after a few steps: a path has to be safe in a log line and in a
// header.
func renderPath(reversed []segment) string {
	if len(reversed) == 0 {
		return ""
	}
	var b strings.Builder
	for i := len(reversed) - 1; i >= 0; i-- {
		s := reversed[i]
		steps := len(reversed) - 1 - i
		if steps == maxPathSteps {
			b.WriteString("...")
			break
		}
		if steps > 0 {
			b.WriteByte('.')
		}
		if s.isIndex {
			b.WriteString(strconv.Itoa(s.index))
			continue
		}
		b.WriteString(renderKey(s.key))
	}
	return b.String()
}

func renderKey(key string) string {
	cut := key
	if len(cut) > maxSegmentText {
		n := maxSegmentText
		for n > 0 && !utf8.RuneStart(cut[n]) {
			n--
		}
		cut = cut[:n]
	}
	plain := cut != "" && !strings.ContainsFunc(cut, func(r rune) bool {
		return r == '.' || r == '"' || r == '\\' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	if !plain {
		cut = strconv.Quote(cut)
	} else {
		cut = strings.Clone(cut)
	}
	if len(key) > maxSegmentText {
		cut += "..."
	}
	return cut
}
