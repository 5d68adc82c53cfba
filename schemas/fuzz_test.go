package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecode holds the decoder against encoding/json: it accepts the same
// texts but for our own rules, each of which the oracle checks by itself, and
// reads the same values out of them.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		string(sampleActivity),
		`{"user_id":"u","events":[{"key":"k","tags":{"revenue":1,"x":[{"y":null}]}}],"odp_events":[{"action":"a","data":{}}]}`,
		`{"user_id":"\ud83d\ude00\u0000","attributes":{"":-0.0e+10,"a":[],"b":{"c":"d"}},"context":[[[]]]}`,
		`{"user_id":"\ud800","x":1}`, `{"user_id":"u","a":{"k":1,"\u006b":2}}`, `{"user_id":null}`, `[]`, `{"user_id":"u"}x`,
		`{"user_id":"u","forced_decisions":[{"flag_key":"f","rule_key":null,"variation_key":"v"}],"decide":"*","options":["A"]}`,
		`{"user_id":"u","timestamp":"2026-01-02T03:04:05Z","identifiers":{"a":"b","c":null},"segments":null}`,
		"{\"user_id\":\"\xff\"}", "\xef\xbb\xbf{}", `{"user_id":"u","timestamp":-0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Decoder
		var a Activity
		before := bytes.Clone(data)
		err := d.Decode(data, &a)
		if !bytes.Equal(before, data) {
			t.Fatal("the record was changed")
		}
		if err == nil {
			checkAccepted(t, data, &a)
			return
		}
		var reject *Reject
		if !errors.As(err, &reject) {
			t.Fatalf("not a *Reject: %v", err)
		}
		valid := json.Valid(data)
		switch reject.Code {
		case RejectNotUTF8:
			if utf8.Valid(data) && !bytes.Contains(bytes.ToLower(data), []byte(`\ud`)) {
				t.Fatalf("%q is UTF-8: %v", data, err)
			}
		case RejectNotJSON:
			if valid {
				t.Fatalf("%q is JSON: %v", data, err)
			}
		case RejectDuplicateKey:
			if valid && !hasDuplicateKey(t, data) {
				t.Fatalf("%q has no duplicate key: %v", data, err)
			}
		case RejectMissingUserID:
			var record struct {
				UserID *string `json:"user_id"`
			}
			if err := exactUnmarshal(data, &record); err != nil || record.UserID != nil {
				t.Fatalf("%q has a user id", data)
			}
		case RejectTooDeep:
			if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) <= MaxDepth {
				t.Fatalf("%q is not deep", data)
			}
		case RejectWrongType, RejectOutOfRange, RejectMissingField:
		default:
			t.Fatalf("unexpected code %s", reject.Code)
		}
	})
}

// exactUnmarshal is json.Unmarshal without its case folding of field names.
func exactUnmarshal(data []byte, record *struct {
	UserID *string `json:"user_id"`
},
) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	if raw, ok := fields["user_id"]; ok {
		return json.Unmarshal(raw, &record.UserID)
	}
	return nil
}

func checkAccepted(t *testing.T, data []byte, a *Activity) {
	if !utf8.Valid(data) {
		t.Fatalf("accepted invalid UTF-8 %q", data)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var want map[string]any
	if err := dec.Decode(&want); err != nil {
		t.Fatalf("accepted %q, encoding/json says %v", data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("accepted trailing text in %q", data)
	}
	if hasDuplicateKey(t, data) {
		t.Fatalf("accepted a duplicate key in %q", data)
	}
	if a.UserID != want["user_id"] {
		t.Fatalf("user_id %q, want %q", a.UserID, want["user_id"])
	}
	if a.HasID && a.ID != want["id"] {
		t.Fatalf("id %q, want %q", a.ID, want["id"])
	}
	attributes, _ := want["attributes"].(map[string]any)
	if len(attributes) != len(a.Attributes) {
		t.Fatalf("%d attributes, want %d", len(a.Attributes), len(attributes))
	}
	for _, attribute := range a.Attributes {
		checkValue(t, attribute.Value, attributes[attribute.Key])
	}
	checkList(t, a.Segments, want["segments"])
	if a.DecideAll {
		if want["decide"] != "*" {
			t.Fatalf("decide all, want %v", want["decide"])
		}
	} else {
		checkList(t, a.Decide, want["decide"])
	}
	checkList(t, a.Options, want["options"])
	checkPairs(t, a.Identifiers, want["identifiers"])
	events, _ := want["events"].([]any)
	if len(events) != len(a.Events) {
		t.Fatalf("%d events, want %d", len(a.Events), len(events))
	}
	for i, event := range events {
		fields := event.(map[string]any)
		if a.Events[i].Key != fields["key"] {
			t.Fatalf("event key %q, want %q", a.Events[i].Key, fields["key"])
		}
		checkRaw(t, a.Events[i].Tags, fields["tags"])
	}
	odp, _ := want["odp_events"].([]any)
	for i, event := range odp {
		fields := event.(map[string]any)
		if a.ODPEvents[i].Action != fields["action"] {
			t.Fatalf("action %q, want %q", a.ODPEvents[i].Action, fields["action"])
		}
		checkPairs(t, a.ODPEvents[i].Identifiers, fields["identifiers"])
		checkRaw(t, a.ODPEvents[i].Data, fields["data"])
	}
	forced, _ := want["forced_decisions"].([]any)
	for i, decision := range forced {
		fields := decision.(map[string]any)
		f := a.Forced[i]
		if f.FlagKey != fields["flag_key"] || f.VariationKey != fields["variation_key"] || f.HasRule != (fields["rule_key"] != nil) {
			t.Fatalf("forced decision %+v, want %v", f, fields)
		}
	}
	checkRaw(t, a.Context, want["context"])
}

func checkValue(t *testing.T, got Value, want any) {
	var ok bool
	switch want := want.(type) {
	case nil:
		ok = got.Kind == KindNull
	case bool:
		ok = got.Kind == KindBool && got.Bool == want
	case json.Number:
		ok = got.Kind == KindNumber && got.Text == string(want)
	case string:
		ok = got.Kind == KindString && got.Text == want
	default:
		if ok = got.Kind == KindComposite; ok {
			checkRaw(t, []byte(got.Text), want)
		}
	}
	if !ok {
		t.Fatalf("value %+v, want %v", got, want)
	}
}

func checkList(t *testing.T, got []string, want any) {
	list, _ := want.([]any)
	if len(got) != len(list) {
		t.Fatalf("list %q, want %v", got, list)
	}
	for i := range got {
		if got[i] != list[i] {
			t.Fatalf("list %q, want %v", got, list)
		}
	}
}

func checkPairs(t *testing.T, got []Pair, want any) {
	object, _ := want.(map[string]any)
	n := 0
	for _, v := range object {
		if v != nil {
			n++
		}
	}
	if len(got) != n {
		t.Fatalf("pairs %q, want %v", got, object)
	}
	for _, pair := range got {
		if object[pair.Key] != pair.Value {
			t.Fatalf("pairs %q, want %v", got, object)
		}
	}
}

func checkRaw(t *testing.T, got []byte, want any) {
	if want == nil {
		if got != nil {
			t.Fatalf("raw %q, want none", got)
		}
		return
	}
	dec := json.NewDecoder(bytes.NewReader(got))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		t.Fatalf("raw %q: %v", got, err)
	}
	a, _ := json.Marshal(value)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Fatalf("raw %s, want %s", a, b)
	}
}

// hasDuplicateKey walks the tokens of valid JSON.
func hasDuplicateKey(t *testing.T, data []byte) bool {
	type level struct {
		keys    map[string]bool // nil for an array
		wantKey bool
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			t.Fatalf("tokens of %q: %v", data, err)
		}
		var top *level
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
		}
		if top != nil && top.wantKey {
			if key, ok := token.(string); ok {
				if top.keys[key] {
					return true
				}
				top.keys[key] = true
				top.wantKey = false
				continue
			}
		}
		delim, _ := token.(json.Delim)
		switch delim {
		case '{':
			levels = append(levels, level{keys: map[string]bool{}, wantKey: true})
			continue
		case '[':
			levels = append(levels, level{})
			continue
		case '}', ']':
			levels = levels[:len(levels)-1]
		}
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
			top.wantKey = top.keys != nil
		}
	}
}

// The oracle itself has to be right.
func TestHasDuplicateKey(t *testing.T) {
	for in, want := range map[string]bool{
		`{"a":{"a":1},"b":[{"a":1},{"a":1}],"c":"a"}`: false,
		`{"a":[],"a":1}`:               true,
		`[[{"x":{"a":1,"\u0061":2}}]]`: true,
	} {
		if hasDuplicateKey(t, []byte(in)) != want {
			t.Error(strings.TrimSpace(in))
		}
	}
}
