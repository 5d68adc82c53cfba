package schemas

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// checkPeek holds Peek against the whole decoding of one record.
func checkPeek(t *testing.T, headers []Header, value []byte, m *Mapping, identifier string) (isAccepted bool) {
	t.Helper()
	var whole, part Decoder
	var a Activity
	var want, got Peek
	isAccepted = whole.DecodeEvent(headers, value, m, &a) == nil
	ok := part.Peek(headers, value, m, identifier, &got)
	if !isAccepted {
		return false
	}
	want.Of(&a, identifier)
	if !ok || got != want {
		t.Fatalf("%q: %+v, %v; decoded %+v", value, got, ok, want)
	}
	return true
}

// forms are the ways a native activity can stand in a record.
func forms(value []byte) map[string]struct {
	headers []Header
	value   []byte
} {
	type form = struct {
		headers []Header
		value   []byte
	}
	structured := []Header{{"Content-Type", []byte("application/cloudevents+json; charset=utf-8")}}
	return map[string]form{
		"plain": {nil, value},
		"binary": {[]Header{
			{headerSpecVersion, []byte("1.0")}, {headerEventID, []byte("1")}, {headerEventSource, []byte("/s")}, {headerEventType, []byte("t")},
		}, value},
		"structured": {structured, fmt.Appendf(nil, `{"x":{"data":[1]},"specversion":"1.0", "id":"1","source":"/s","type":"t","data_base64":null,"data": %s ,"more":[{}]}`, value)},
		"base64":     {structured, fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null,"data_base64":"%s"}`, base64.StdEncoding.EncodeToString(value))},
	}
}

// FuzzPeek: whatever is accepted is told as it is decoded, in each form; whatever else
// there is makes no harm.
func FuzzPeek(f *testing.F) {
	for _, seed := range []string{
		string(sampleActivity), `{"user_id":"u","identifiers":{"email":null,"vuid":"v"}}`, `{"segments":null,"user_id":"u"}`,
		`{"user_id":"\u0075","\u0073egments":[],"identifiers":{"vu\u0069d":"\n"}}`, `{"context":{"segments":["}"],"a":"\\\"{"},"user_id":""}`,
		`{"user_id":"u"`, `{"user_id":1,"segments":[]}`, `[]`, ``, `{"user_id":"u","identifiers":[]}`, `{"a":`, `{"a":"`,
		`{"attributes":{"a":"user_id"},"user_id":"u"}`, `{"attributes":{"user_id":"x"}}`, `{"user_id" : "u" ,"attributes":{"vuid":"x"},"identifiers":{"vuid":"v"}}`,
		`{"attributes":{"segments":[]},"user_id":"u"}`, `{"attributes":{"a":true},"user_id"`, `{"attributes":{"a":true},"user_id":`, `"user_id":"u"`, `{"a":[`, `{"a":"\`,
	} {
		f.Add([]byte(seed), "vuid")
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, data []byte, identifier string) {
		for _, form := range forms(data) {
			checkPeek(t, form.headers, form.value, nil, identifier)
		}
		// As the whole value, too, which then needn't be a good envelope.
		checkPeek(t, []Header{{headerContentType, []byte(eventMediaType + "+json")}}, data, nil, identifier)
	})
}

// TestPeek holds Peek against Decode on activities made at random, whole and damaged.
func TestPeek(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	accepted := map[string]int{}
	for range 20_000 {
		value := []byte(randomActivity(r))
		if r.IntN(4) == 0 {
			value[r.IntN(len(value))] = "\"\\{}[],:n1 \xff"[r.IntN(12)]
		}
		for name, form := range forms(value) {
			if checkPeek(t, form.headers, form.value, nil, []string{"", "vuid", "email"}[r.IntN(3)]) {
				accepted[name]++
			}
		}
	}
	for name, n := range accepted {
		if n < 10_000 {
			t.Errorf("%s: only %d of 20000 were accepted", name, n)
		}
	}
}

func TestPeekMapped(t *testing.T) {
	m, err := CompileMapping(map[string]any{"user_id": "who.id", "segments": "groups", "identifiers.vuid": "who.device"})
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{`{"who":{"id":17,"device":"d"}}`, `{"who":{"id":"u"},"groups":["a"]}`, `{"who":{"id":"u"},"groups":null}`} {
		if !checkPeek(t, nil, []byte(record), m, "vuid") {
			t.Errorf("%s was not accepted", record)
		}
	}
	var d Decoder
	var p Peek
	if d.Peek(nil, []byte(`{"who":{}}`), m, "", &p) {
		t.Error("a record without user was told of")
	}
}

// randomActivity writes members in any order, with escapes in keys and values, nulls,
// and look-alikes of what Peek looks for at other depths.
func randomActivity(r *rand.Rand) string {
	text := func(s string) string {
		var b strings.Builder
		for _, c := range s {
			if r.IntN(12) == 0 {
				fmt.Fprintf(&b, `\u%04x`, c)
			} else {
				b.WriteRune(c)
			}
		}
		return `"` + b.String() + `"`
	}
	values := func() string {
		return []string{`"x"`, `"seg\"ments"`, `{"segments":["a"],"user_id":"no"}`, `[{"identifiers":{"vuid":"no"}},[]]`, `-1.5e3`, `true`, `null`, `"` + strings.Repeat("ä", r.IntN(20)) + `"`, `{}`}[r.IntN(9)]
	}
	members := []string{text("user_id") + ":" + text([]string{"", "u-1", "a long user id with \u00fcmlauts"}[r.IntN(3)])}
	for _, member := range []func() string{
		func() string { return text("segments") + ":" + []string{"null", "[]", `["a","}"]`}[r.IntN(3)] },
		func() string {
			return text("identifiers") + ":" + []string{"null", "{}", `{"email":"e{"}`, `{"email":null,` + text("vuid") + `:` + text("v-1") + `}`}[r.IntN(4)]
		},
		func() string { return `"attributes":{"a":` + values() + `, "segments" : ` + values() + `}` },
		func() string { return `"context":` + values() },
		func() string { return text("unknown") + " : " + values() },
		func() string { return `"timestamp":1790000000000` },
	} {
		if r.IntN(2) == 0 {
			members = append(members, member())
		}
	}
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return []string{"", " ", "\t\n"}[r.IntN(3)] + "{" + strings.Join(members, []string{",", " ,\n"}[r.IntN(2)]) + "}" + []string{"", " \r"}[r.IntN(2)]
}
