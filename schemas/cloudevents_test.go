package schemas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// headersOf makes headers of "key: value" lines.
func headersOf(lines ...string) []Header {
	var out []Header
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		out = append(out, Header{key, []byte(value)})
	}
	return out
}

var (
	structured = headersOf("x: 1", "content-type: application/cloudevents+json")
	binaryMode = headersOf("ce_specversion: 1.0", "ce_id: 42", "ce_source: /shop", "ce_type: visit", "ce_time: 2026-01-02T03:04:05.678Z", "content-type: application/json")
)

const eventMillis = 1767323045678

func TestCloudEvents(t *testing.T) {
	m, err := CompileMapping(map[string]any{"user_id": "who.id", "attributes": "traits"})
	require.NoError(t, err)
	const head = `"specversion":"1.0","id":"42","source":"/shop","type":"visit","subject":null,"time":"2026-01-02T03:04:05.678Z",`
	base := base64.StdEncoding.EncodeToString
	for name, row := range map[string]struct {
		headers []Header
		value   string
		mapping *Mapping
	}{
		"structured":             {structured, `{` + head + `"data":{"user_id":"u"},"traceparent":{"any":[1]}}`, nil},
		"data first":             {structured, ` {"data" : {"user_id":"u"} ,` + strings.TrimSuffix(head, ",") + `} `, nil},
		"capitals, parameters":   {headersOf("Content-Type: \tAPPLICATION/CloudEvents+JSON ; charset=UTF-8"), `{` + head + `"data":{"user_id":"u"}}`, nil},
		"escapes in the head":    {structured, `{"specversion":"1.0","id":"\u00342","source":"\/shop","type":"v\u0069sit","time":"2026-01-02T03:04:05.678\u005a","data":{"user_id":"u"}}`, nil},
		"base64":                 {structured, `{` + head + `"data_base64":"` + base([]byte(`{"user_id":"u"}`)) + `"}`, nil},
		"base64 with escapes":    {structured, `{` + head + `"data":null,"data_base64":"` + strings.ReplaceAll(base([]byte(`{"user_id":"\u0075"}`)), "A", `\u0041`) + `"}`, nil},
		"mapped":                 {structured, `{` + head + `"data":{"who":{"id":"u"}}}`, m},
		"mapped base64":          {structured, `{` + head + `"data_base64":"` + base([]byte(`{"who":{"id":"u"}}`)) + `"}`, m},
		"binary":                 {binaryMode, `{"user_id":"u"}`, nil},
		"binary, mapped":         {binaryMode, `{"who":{"id":"u"}}`, m},
		"the last header counts": {append(headersOf("ce_id: 7", "ce_specversion: 9"), binaryMode...), `{"user_id":"u"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			var a Activity
			require.NoError(t, d.DecodeEvent(row.headers, []byte(row.value), row.mapping, &a))
			require.Equal(t, Activity{UserID: "u", ID: "/shop 42", HasID: true, Timestamp: eventMillis, HasTimestamp: true}, a)
		})
	}
}

// What the activity says itself counts; what nobody says stays open.
func TestCloudEventsGiveWhatIsMissing(t *testing.T) {
	var d Decoder
	var a Activity
	own := []byte(`{"user_id":"u","id":"","timestamp":7,"attributes":{"k":"v"},"new":1}`)
	require.NoError(t, d.DecodeEvent(binaryMode, own, nil, &a))
	require.Equal(t, Activity{UserID: "u", HasID: true, Timestamp: 7, HasTimestamp: true, Unknown: 1, Attributes: []Attribute{{"k", Value{Kind: KindString, Text: "v"}}}}, a)
	require.NoError(t, d.DecodeEvent(structured, []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","time":null,"data":{"user_id":"u","id":null}}`), nil, &a))
	require.Equal(t, Activity{UserID: "u", ID: "s 1", HasID: true}, a)

	// Headers that make no CloudEvent change nothing.
	for _, headers := range [][]Header{
		nil, headersOf("content-type: application/json"), headersOf("content-type: application/cloudevent+json"), headersOf("CE_ID: 1", "ce_time: x", "ce_subject: s"),
	} {
		var plain Activity
		require.NoError(t, d.Decode([]byte(everyField), &plain))
		var other Decoder
		require.NoError(t, other.DecodeEvent(headers, []byte(everyField), nil, &a))
		require.Equal(t, plain, a)
	}
}

// Several activities of one decoder stay valid side by side.
func TestDecodeEventMore(t *testing.T) {
	var d Decoder
	activities := make([]Activity, 300)
	for i := range activities {
		require.NoError(t, d.DecodeEventMore(binaryMode, []byte(`{"user_id":"\u0061"}`), nil, &activities[i]))
	}
	for i := range activities {
		require.Equal(t, "a", activities[i].UserID)
		require.Equal(t, "/shop 42", activities[i].ID)
	}
}

func TestBadCloudEvents(t *testing.T) {
	without := func(key string) []Header {
		var out []Header
		for _, h := range binaryMode {
			if h.Key != key {
				out = append(out, h)
			}
		}
		return out
	}
	with := func(line string) []Header { return append(headersOf(), append(binaryMode, headersOf(line)...)...) }
	const head = `"specversion":"1.0","id":"42","source":"/shop","type":"visit"`
	for _, row := range []struct {
		headers []Header
		value   string
		want    string
		offset  int
	}{
		{without("ce_specversion"), `{}`, "bad_cloudevent: ce_specversion: is missing", -1},
		{without("ce_id"), `{}`, "bad_cloudevent: ce_id: is missing", -1},
		{without("ce_source"), `{}`, "bad_cloudevent: ce_source: is missing", -1},
		{without("ce_type"), `{}`, "bad_cloudevent: ce_type: is missing", -1},
		{with("ce_specversion: 0.3"), `{}`, "bad_cloudevent: ce_specversion: want 1.0", -1},
		{with("ce_id: "), `{}`, "bad_cloudevent: ce_id: is empty", -1},
		{with("ce_id: \xff"), `{}`, "bad_cloudevent: ce_id: invalid UTF-8", -1},
		{with("ce_source: a b"), `{}`, "bad_cloudevent: ce_source: want a URI reference", -1},
		{with("ce_time: yesterday"), `{}`, "bad_cloudevent: ce_time: want an RFC 3339 time", -1},
		{binaryMode, `{"id":1}`, "wrong_type: id: want a string", 6},
		{binaryMode, ``, "not_json: unexpected end", 0},
		{headersOf("content-type: application/cloudevents+avro"), `x`, "bad_cloudevent: content-type: want the format +json, one event a record", -1},
		{headersOf("content-type: application/cloudevents-batch+json"), `[]`, "bad_cloudevent: content-type: want the format +json, one event a record", -1},
		{headersOf("content-type: application/cloudevents"), `{}`, "bad_cloudevent: content-type: want the format +json, one event a record", -1},
		{structured, "{\"\xff\"", "not_utf8: invalid UTF-8", 2},
		{structured, ``, "not_json: unexpected end", 0},
		{structured, `[1]`, "bad_cloudevent: want an object", 0},
		{structured, `[1`, "not_json: unexpected end", 2},
		{structured, `{} {}`, "not_json: more text after the record", 3},
		{structured, `{"id":1}`, "bad_cloudevent: id: want a string", 6},
		{structured, `{"id":"1"x}`, "not_json: expected , or }", 9},
		{structured, `{"id":"1","\u0069d":"2"}`, "duplicate_key: id: duplicate key", 10},
		{structured, `{"data":{"a":1,"a":2}}`, "duplicate_key: data.a: duplicate key", 15},
		{structured, `{"id":"42","source":"/shop","type":"visit"}`, "bad_cloudevent: specversion: is missing", -1},
		{structured, `{"specversion":"1.0","id":null}`, "bad_cloudevent: id: is missing", -1},
		{structured, `{` + head + `}`, "bad_cloudevent: data: is missing", -1},
		{structured, `{` + head + `,"data":null}`, "bad_cloudevent: data: is missing", -1},
		{structured, `{` + head + `,"data":{},"data_base64":"e30="}`, "bad_cloudevent: data_base64: there is data, too", -1},
		{structured, `{` + head + `,"data_base64":"e30"}`, "bad_cloudevent: data_base64: want base64", -1},
		{structured, `{` + head + `,"data_base64":"eyJpZCI6MX0="}`, "wrong_type: id: want a string", -1},
		{structured, `{` + head + `,"data":{}}`, "missing_user_id: user_id is missing", -1},
		{structured, `{` + head + `,"data":[]}`, "wrong_type: want an object", len(head) + 9},
		{structured, `{` + head + `,"data":{"events":[{"key":3}]}}`, "wrong_type: events.0.key: want a string", len(head) + 27},
		{structured, `{` + head + `,"data":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`, "too_deep: data", len(head) + 9 + MaxDepth - 1},
	} {
		var d Decoder
		var a Activity
		err := d.DecodeEvent(row.headers, []byte(row.value), nil, &a)
		var reject *Reject
		require.ErrorAs(t, err, &reject, row.want)
		assert.True(t, strings.HasPrefix(err.Error(), "record rejected: "+row.want), "%v, want %s", err, row.want)
		assert.Equal(t, row.offset, reject.Offset, row.want)
		// The decoder is fit for the next record.
		require.NoError(t, d.DecodeEvent(binaryMode, []byte(`{"user_id":"u"}`), nil, &a))
		require.Equal(t, "/shop 42", a.ID)
	}
}

func TestDecodeEventDoesNotAllocate(t *testing.T) {
	var d Decoder
	var a Activity
	envelope := []byte(`{"specversion":"1.0","id":"42","source":"\/shop","type":"visit","time":"2026-01-02T03:04:05Z","data":` + string(sampleActivity) + `}`)
	encoded := []byte(`{"specversion":"1.0","id":"42","source":"/shop","type":"visit","data_base64":"` + base64.StdEncoding.EncodeToString(sampleActivity) + `"}`)
	for name, row := range map[string]struct {
		headers []Header
		value   []byte
	}{
		"plain": {nil, sampleActivity}, "with headers": {headersOf("traceparent: 00-x", "content-type: application/json"), sampleActivity},
		"binary": {binaryMode, sampleActivity}, "structured": {structured, envelope}, "base64": {structured, encoded},
	} {
		run := func() {
			if err := d.DecodeEvent(row.headers, row.value, nil, &a); err != nil {
				t.Fatal(err)
			}
		}
		run()
		require.Zero(t, testing.AllocsPerRun(100, run), name)
	}
}

// FuzzDecodeEvent: what is inside of a CloudEvent is decoded as it would be alone,
// in both modes, and nothing but an envelope is taken for one.
func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []struct{ contentType, id, source, time, value string }{
		{"application/cloudevents+json", "", "", "", `{"specversion":"1.0","id":"4","source":"/s","type":"t","time":"2026-01-02T03:04:05Z","data":{"user_id":"u"}}`},
		{"Application/CloudEvents+JSON; charset=utf-8", "", "", "", `{"specversion":"1.0","id":"4","source":"/s","type":"t","data_base64":"eyJ1c2VyX2lkIjoidSJ9"}`},
		{"application/cloudevents+json", "", "", "", `{"specversion":"1.0","id":"4","source":"/s","type":"t","data":{"user_id":"u"},"data":1}`},
		{"application/cloudevents+json", "", "", "", `{"specversion":"1.0","id":4,"source":null,"type":"","data":null,"data_base64":"?"}`},
		{"application/cloudevents+avro", "", "", "", "\x00"},
		{"application/json", "4", "/s", "2026-01-02T03:04:05Z", `{"user_id":"u","id":null}`},
		{"", "", "", "", `{"user_id":"u"}`},
		{"", "4", "a b", "soon", `{"user_id":"u"}`},
	} {
		f.Add(seed.contentType, seed.id, seed.source, seed.time, []byte(seed.value))
	}
	f.Fuzz(func(t *testing.T, contentType, id, source, time string, value []byte) {
		headers := headersOf("content-type: " + contentType)
		isBinary := id != "" || source != ""
		if isBinary {
			headers = append(headers, headersOf("ce_specversion: 1.0", "ce_type: t", "ce_id: "+id, "ce_source: "+source)...)
			if time != "" {
				headers = append(headers, headersOf("ce_time: "+time)...)
			}
		}
		before := bytes.Clone(value)
		var d, plain Decoder
		var got, want Activity
		err := d.DecodeEvent(headers, value, nil, &got)
		if !bytes.Equal(before, value) {
			t.Fatal("the record was changed")
		}
		if err != nil {
			var reject *Reject
			if !errors.As(err, &reject) {
				t.Fatalf("not a *Reject: %v", err)
			}
		}
		data := value
		if isEventType([]byte(contentType)) {
			if err != nil {
				return
			}
			var envelope struct {
				ID, Source, Time string
				Data             json.RawMessage
				Base64           []byte `json:"data_base64"`
			}
			// encoding/json finds members in any case; such an envelope is no test.
			var members map[string]json.RawMessage
			if json.Unmarshal(value, &members) != nil {
				t.Fatalf("accepted %q", value)
			}
			for key := range members {
				if key != strings.ToLower(key) {
					return
				}
			}
			if err := json.Unmarshal(value, &envelope); err != nil {
				t.Fatalf("accepted %q: %v", value, err)
			}
			id, source, time, data = envelope.ID, envelope.Source, envelope.Time, envelope.Data
			if string(data) == "null" || data == nil {
				data = envelope.Base64
			}
			isBinary = true
		}
		inside := plain.Decode(data, &want)
		if !isBinary {
			if (err == nil) != (inside == nil) {
				t.Fatalf("plain %q: %v, %v", value, err, inside)
			}
			return
		}
		ms, isTime := parseTime(time)
		isEnvelope := id != "" && source != "" && !strings.ContainsAny(source, " \t\r\n") && utf8.ValidString(id+source) && (time == "" || isTime)
		if err == nil && (inside != nil || !isEnvelope) {
			t.Fatalf("accepted id %q source %q time %q, %v", id, source, time, inside)
		}
		if err != nil {
			return
		}
		if got.UserID != want.UserID || len(got.Attributes) != len(want.Attributes) || got.Unknown != want.Unknown {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if !want.HasID {
			want.ID = source + " " + id
		}
		if !want.HasTimestamp && time != "" {
			want.Timestamp, want.HasTimestamp = ms, true
		}
		if got.ID != want.ID || !got.HasID || got.Timestamp != want.Timestamp || got.HasTimestamp != want.HasTimestamp {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}
