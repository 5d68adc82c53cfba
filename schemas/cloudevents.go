package schemas

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Header is one header of a record. Kafka allows a key to occur several times,
// and keeps the order.
type Header struct {
	Key   string
	Value []byte
}

// The headers of Kafka's binding of CloudEvents 1.0. In binary mode a header is
// an attribute with ce_ before its name, and content-type is the data's.
const (
	headerContentType = "content-type"
	headerSpecVersion = "ce_specversion"
	headerEventID     = "ce_id"
	headerEventSource = "ce_source"
	headerEventType   = "ce_type"
	headerEventTime   = "ce_time"

	// eventMediaType begins the content-type of structured mode; the format follows.
	eventMediaType = "application/cloudevents"
)

// The attributes of an event that matter here, as bits.
const (
	eventSpecVersion = 1 << iota
	eventID
	eventSource
	eventType
	eventTime
	eventData
	eventBase64

	eventRequired = eventSpecVersion | eventID | eventSource | eventType
)

// cloudEvent is what is known of an envelope.
type cloudEvent struct {
	given                               int // bits
	specVersion, id, source, kind, time string
	data                                span // of the value, in structured mode
	base64                              string
}

// DecodeEvent reads one record with its headers into a, as Decode does or, unless
// m is nil, m.Decode. What a record is, its headers tell:
//
//   - content-type application/cloudevents+json, in any case and with any
//     parameters: the value is a CloudEvent in structured mode, and the activity is
//     its data or, decoded, its data_base64;
//   - else one of ce_specversion, ce_id, ce_source and ce_type: a CloudEvent in
//     binary mode, and the value is the activity;
//   - else the value is the activity, and this is Decode.
//
// An activity without id gets the event's source, a space, and its id: the two
// together are what is unique, and a source holds no space. One without timestamp
// gets the event's time. The rest of the envelope is checked as JSON and passed
// over; its members are not counted as unknown.
//
// An envelope that is none (a required attribute missing, empty or no text, another
// specversion than 1.0, a source with white space, a time that isn't RFC 3339, data
// given twice or not at all, another format than JSON) is a *Reject with
// RejectBadCloudEvent. A Reject of the activity inside names the activity's field;
// its Offset counts in the record, and is -1 for data_base64. Of a header that
// occurs twice the last one counts.
//
// a aliases value and the headers' values; see Decode.
//
// Source: CloudEvents 1.0.2, its JSON format, and its Kafka protocol binding,
// section 3.
func (d *Decoder) DecodeEvent(headers []Header, value []byte, m *Mapping, a *Activity) error {
	d.Reset()
	return d.DecodeEventMore(headers, value, m, a)
}

// DecodeEventMore is to DecodeEvent what DecodeMore is to Decode.
func (d *Decoder) DecodeEventMore(headers []Header, value []byte, m *Mapping, a *Activity) error {
	if len(headers) > 0 {
		var e cloudEvent
		if contentType := e.readHeaders(headers); isEventType(contentType) {
			return d.decodeStructured(contentType, value, m, a)
		}
		if e.given&eventRequired != 0 {
			return d.decodeBinary(&e, value, m, a)
		}
	}
	return d.decodeShape(value, m, a)
}

// decodeShape reads an activity in the native or the mapped shape.
func (d *Decoder) decodeShape(data []byte, m *Mapping, a *Activity) error {
	if m != nil {
		return m.DecodeMore(data, d, a)
	}
	return d.DecodeMore(data, a)
}

// readHeaders takes the attributes of binary mode and returns the content type.
func (e *cloudEvent) readHeaders(headers []Header) (contentType []byte) {
	for i := range headers {
		h := &headers[i]
		switch h.Key {
		case headerSpecVersion:
			e.specVersion = alias(h.Value)
			e.given |= eventSpecVersion
		case headerEventID:
			e.id = alias(h.Value)
			e.given |= eventID
		case headerEventSource:
			e.source = alias(h.Value)
			e.given |= eventSource
		case headerEventType:
			e.kind = alias(h.Value)
			e.given |= eventType
		case headerEventTime:
			e.time = alias(h.Value)
			e.given |= eventTime
		default:
			// Other protocols' clients capitalise it.
			if len(h.Key) == len(headerContentType) && strings.EqualFold(h.Key, headerContentType) {
				contentType = h.Value
			}
		}
	}
	return contentType
}

// isEventType tells whether a content type is that of structured mode, in whatever
// format. Source: Kafka protocol binding, section 3.
func isEventType(contentType []byte) bool {
	t := bytes.TrimLeft(contentType, " \t")
	return len(t) >= len(eventMediaType) && bytes.EqualFold(t[:len(eventMediaType)], []byte(eventMediaType))
}

// isJSONEvent tells whether the format of structured mode is the one we read.
func isJSONEvent(contentType []byte) bool {
	format := bytes.TrimLeft(contentType, " \t")[len(eventMediaType):]
	if i := bytes.IndexByte(format, ';'); i >= 0 {
		format = format[:i]
	}
	return bytes.EqualFold(bytes.TrimRight(format, " \t"), []byte("+json"))
}

func (d *Decoder) decodeBinary(e *cloudEvent, value []byte, m *Mapping, a *Activity) error {
	at, reject := e.check("ce_")
	if reject != nil {
		return reject
	}
	if err := d.decodeShape(value, m, a); err != nil {
		return err
	}
	d.complete(a, e, at)
	return nil
}

func (d *Decoder) decodeStructured(contentType, value []byte, m *Mapping, a *Activity) error {
	if !isJSONEvent(contentType) {
		return newReject(RejectBadCloudEvent, headerContentType, "want the format +json, one event a record", -1)
	}
	if !utf8.Valid(value) {
		return newReject(RejectNotUTF8, "", "invalid UTF-8", invalidUTF8(value))
	}
	var e cloudEvent
	d.begin()
	if d.envelope(value, &e) < 0 {
		return d.reject()
	}
	at, reject := e.check("")
	if reject != nil {
		return reject
	}
	var data []byte
	switch e.given & (eventData | eventBase64) {
	case eventData:
		data = value[e.data.from:e.data.to:e.data.to]
	case eventBase64:
		mark := len(d.unescaped)
		var err error
		d.unescaped, err = base64.StdEncoding.AppendDecode(d.unescaped, bytesOf(e.base64))
		if err != nil {
			return newReject(RejectBadCloudEvent, "data_base64", "want base64", -1)
		}
		data = d.unescaped[mark:len(d.unescaped):len(d.unescaped)]
	case 0:
		return newReject(RejectBadCloudEvent, "data", "is missing", -1)
	default:
		return newReject(RejectBadCloudEvent, "data_base64", "there is data, too", -1)
	}
	if err := d.decodeShape(data, m, a); err != nil {
		if r, ok := err.(*Reject); ok && r.Offset >= 0 { //nolint:errorlint // made by the call above, never wrapped
			r.Offset += e.data.from
			if e.given&eventBase64 != 0 {
				r.Offset = -1
			}
		}
		return err
	}
	d.complete(a, &e, at)
	return nil
}

// complete gives an activity what only its envelope has.
func (d *Decoder) complete(a *Activity, e *cloudEvent, at int64) {
	if !a.HasID {
		mark := len(d.unescaped)
		d.unescaped = append(d.unescaped, e.source...)
		d.unescaped = append(d.unescaped, ' ')
		d.unescaped = append(d.unescaped, e.id...)
		a.ID, a.HasID = alias(d.unescaped[mark:]), true
	}
	if !a.HasTimestamp && e.given&eventTime != 0 {
		a.Timestamp, a.HasTimestamp = at, true
	}
}

// check judges the attributes that matter and reads the time. prefix is what their
// names begin with in the record.
func (e *cloudEvent) check(prefix string) (at int64, _ *Reject) {
	bad := func(name, what string) (int64, *Reject) {
		return 0, newReject(RejectBadCloudEvent, prefix+name, what, -1)
	}
	for _, attribute := range [...]struct {
		bit         int
		name, value string
	}{
		{eventSpecVersion, "specversion", e.specVersion}, {eventID, "id", e.id},
		{eventSource, "source", e.source}, {eventType, "type", e.kind},
	} {
		switch {
		case e.given&attribute.bit == 0:
			return bad(attribute.name, "is missing")
		case attribute.value == "":
			return bad(attribute.name, "is empty")
		case prefix != "" && !utf8.ValidString(attribute.value): // text in a record has been checked
			return bad(attribute.name, "invalid UTF-8")
		}
	}
	if e.specVersion != "1.0" {
		return bad("specversion", "want 1.0")
	}
	// A URI reference holds neither; the id made of it relies on that.
	if strings.ContainsFunc(e.source, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("source", "want a URI reference")
	}
	if e.given&eventTime != 0 {
		var ok bool
		if at, ok = parseTime(e.time); !ok {
			return bad("time", "want an RFC 3339 time")
		}
	}
	return at, nil
}

// envelope checks the whole of an event in structured mode and notes what matters.
// A null member is an absent one. Source: CloudEvents JSON format, section 2.
func (d *Decoder) envelope(data []byte, e *cloudEvent) int {
	at := space(data, 0)
	if at >= len(data) {
		return d.failAt(data, at, "")
	}
	if data[at] != '{' {
		if d.value(data, at, 0) < 0 {
			return -1
		}
		return d.fail(RejectBadCloudEvent, at, "want an object")
	}
	seen := keySet{base: len(d.keys)}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		if !d.addKey(&seen, key) {
			return d.failDuplicate(keyAt, key)
		}
		if i = d.member(data, i, key, e); i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	if i < 0 {
		return i
	}
	if i = space(data, i); i < len(data) {
		return d.fail(RejectNotJSON, i, "more text after the record")
	}
	return i
}

// member reads the value of one member of an envelope.
func (d *Decoder) member(data []byte, at int, key string, e *cloudEvent) int {
	var to *string
	var bit int
	switch key {
	case "specversion":
		to, bit = &e.specVersion, eventSpecVersion
	case "id":
		to, bit = &e.id, eventID
	case "source":
		to, bit = &e.source, eventSource
	case "type":
		to, bit = &e.kind, eventType
	case "time":
		to, bit = &e.time, eventTime
	case "data_base64":
		to, bit = &e.base64, eventBase64
	case "data":
		i := d.value(data, at, 1)
		if i >= 0 && data[at] != 'n' {
			e.data = span{at, i}
			e.given |= eventData
		}
		return i
	}
	if to == nil || data[at] == 'n' {
		return d.value(data, at, 1)
	}
	e.given |= bit
	if data[at] != '"' {
		if d.value(data, at, 1) < 0 {
			return -1
		}
		return d.fail(RejectBadCloudEvent, at, "want a string")
	}
	var i int
	*to, i = d.text(data, at)
	return i
}

// bytesOf is the reverse of alias: the bytes are not to be changed.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
