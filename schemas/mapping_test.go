package schemas

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type spec = map[string]any

func constant(v any) spec { return spec{"const": v} }

// mapped decodes record under a mapping, which gets a user_id if it has none.
func mapped(t *testing.T, mapping spec, record string) (Activity, error) {
	t.Helper()
	if _, ok := mapping["user_id"]; !ok {
		mapping["user_id"] = constant("u")
	}
	m, err := CompileMapping(mapping)
	require.NoError(t, err)
	var d Decoder
	var a Activity
	err = m.Decode([]byte(record), &d, &a)
	return a, err
}

func TestMappingEverything(t *testing.T) {
	record := `{"payload":{"user":{"id":12345,"email":"x@y.example","crm":77,"ids":{"a":1,"b":"two"}},"event":"order placed","ts":1790000000.9876,
		"traits":{"subscription":"gold","age":31,"plan.name":null,"nested":{"a":[1]}},"items":[{"sku":"s-1","n":1.50},{"sku":"s-2"}],
		"flags":["f1","f2"],"tier":"vip","a.b":true}}`
	got, err := mapped(t, spec{
		"user_id":                          "payload.user.id",
		"id":                               "payload.missing",
		"timestamp":                        spec{"from": "payload.ts", "unit": "s"},
		"attributes":                       spec{"from": "payload.traits", "rename": spec{"subscription": "plan", "absent": "x"}},
		"attributes.channel":               constant("web <&>"),
		"attributes.age":                   constant(32),
		"attributes.dotted":                `payload.a\.b`,
		"identifiers":                      "payload.user.ids",
		"identifiers.email":                "payload.user.email",
		"identifiers.crm":                  "payload.user.crm",
		"segments.0":                       "payload.tier",
		"segments.1":                       "payload.missing",
		"segments.2":                       constant("everyone"),
		"decide":                           "payload.flags",
		"options":                          constant([]any{"INCLUDE_REASONS"}),
		"events.0.key":                     "payload.event",
		"events.0.tags.sku":                "payload.items.0.sku",
		"events.0.tags.n":                  "payload.items.0.n",
		"events.1.key":                     "payload.no_such_event",
		"events.1.tags":                    "payload.items.1",
		"events.10.key":                    constant("last"),
		"events.2.key":                     constant("third"),
		"events.2.tags":                    "payload.items.1",
		"events.2.timestamp":               constant("2026-01-02T03:04:05Z"),
		"odp_events.0.action":              "payload.event",
		"odp_events.0.identifiers.crm":     "payload.user.crm",
		"odp_events.0.data.first":          "payload.items.0",
		"forced_decisions.0.flag_key":      constant("f1"),
		"forced_decisions.0.variation_key": "payload.tier",
		"context":                          "payload.items",
	}, record)
	require.NoError(t, err)
	assert.Equal(t, Activity{
		UserID: "12345", Timestamp: 1790000000987, HasTimestamp: true,
		Attributes: []Attribute{
			{"age", Value{Kind: KindNumber, Text: "32"}},
			{"channel", Value{Kind: KindString, Text: "web <&>"}},
			{"dotted", Value{Kind: KindBool, Bool: true}},
			{"plan", Value{Kind: KindString, Text: "gold"}},
			{"plan.name", Value{Kind: KindNull}},
			{"nested", Value{Kind: KindComposite, Text: `{"a":[1]}`}},
		},
		Identifiers: []Pair{{"crm", "77"}, {"email", "x@y.example"}, {"a", "1"}, {"b", "two"}},
		Segments:    []string{"vip", "everyone"}, HasSegments: true,
		Decide: []string{"f1", "f2"}, HasDecide: true,
		Options: []string{"INCLUDE_REASONS"},
		Forced:  []ForcedDecision{{FlagKey: "f1", VariationKey: "vip"}},
		Events: []Conversion{
			{Key: "order placed", Tags: []byte(`{"n":1.50,"sku":"s-1"}`)},
			{Key: "third", Tags: []byte(`{"sku":"s-2"}`), Timestamp: 1767323045000, HasTimestamp: true},
			{Key: "last"},
		},
		ODPEvents: []ODPEvent{{Action: "order placed", Identifiers: []Pair{{"crm", "77"}}, Data: []byte(`{"first":{"sku":"s-1","n":1.50}}`)}},
		Context:   []byte(`[{"sku":"s-1","n":1.50},{"sku":"s-2"}]`),
	}, got)
}

func TestMappingOfTheNativeShapeChangesNothing(t *testing.T) {
	identity := spec{}
	for field := range mapActivity.parts {
		identity[field] = field
	}
	for _, record := range []string{
		string(sampleActivity), `{"user_id":""}`,
		`{"user_id":"u","attributes":{"a":null,"\u0062":[1]},"segments":[],"decide":"*","events":[{"key":"k","tags":{}}],"identifiers":{"x":"y"}}`,
	} {
		native := decode(t, record)
		got, err := mapped(t, identity, record)
		require.NoError(t, err)
		assert.Equal(t, native, got)
	}
}

func TestMappingSources(t *testing.T) {
	f := func(path, record, want string) {
		t.Helper()
		a, err := mapped(t, spec{"context": path}, record)
		require.NoError(t, err)
		assert.Equal(t, want, string(a.Context), "%s of %s", path, record)
	}
	f("$", ` {"a":[1, 2]} `, `{"a":[1, 2]}`)
	f("$", `[1]`, `[1]`)
	f("$.a", `{"a":1}`, `1`)
	f(`\$`, `{"$":1}`, `1`)
	f("a.1", `{"a":[1,2]}`, `2`)
	f("a.1", `{"a":{"1":3}}`, `3`)
	f("1.x", `[0,{"x":4}]`, `4`)
	f("a.2", `{"a":[1,2]}`, ``)
	f("a.01", `{"a":[1,2]}`, ``)
	f("a.b", `{"a":7}`, ``)
	f("a.b", `{"a":null}`, ``)
	f("a", `{"a":null}`, ``)
	f(`a\.b.c\\d`, `{"a.b":{"c\\d":5}}`, `5`)
	f("é", `{"\u00e9":6}`, `6`)

	a, err := mapped(t, spec{"user_id": "u", "context": "u", "id": "u"}, `{"u":"same"}`)
	require.NoError(t, err)
	assert.Equal(t, []string{"same", "same", `"same"`}, []string{a.UserID, a.ID, string(a.Context)})
}

func TestMappingTimestampUnits(t *testing.T) {
	f := func(unit, literal string, want int64) {
		t.Helper()
		a, err := mapped(t, spec{"timestamp": spec{"from": "t", "unit": unit}}, `{"t":`+literal+`}`)
		require.NoError(t, err, literal)
		assert.Equal(t, want, a.Timestamp, "%s %s", literal, unit)
	}
	f("s", "1790000000", 1790000000000)
	f("s", "1790000000.1", 1790000000100)
	f("s", "1790000000.12399", 1790000000123)
	f("s", "0.5", 500)
	f("s", "0.0005", 0)
	f("s", "-0.5", -500)
	f("s", "0", 0)
	f("ms", "1790000000000.9", 1790000000000)
	f("us", "1790000000000999", 1790000000000)
	f("ns", "1790000000000999999", 1790000000000)
	f("ns", "-999", 0)
	f("us", "5", 0)
	f("ns", "1000000", 1)
	f("s", `"2026-01-02T03:04:05Z"`, 1767323045000)

	_, err := mapped(t, spec{"timestamp": spec{"from": "t", "unit": "s"}}, `{"t":1e9}`)
	assert.ErrorIs(t, err, &Reject{Code: RejectWrongType})
	_, err = mapped(t, spec{"timestamp": spec{"from": "t", "unit": "s"}}, `{"t":1790000000000}`)
	assert.ErrorIs(t, err, &Reject{Code: RejectOutOfRange})
	_, err = mapped(t, spec{"timestamp": "t"}, `{"t":1.5}`)
	assert.ErrorIs(t, err, &Reject{Code: RejectWrongType}, "no unit, no conversion")
}

func TestMappingRejects(t *testing.T) {
	f := func(mapping spec, record string, code RejectCode, path string) {
		t.Helper()
		_, err := mapped(t, mapping, record)
		var reject *Reject
		require.ErrorAs(t, err, &reject, record)
		assert.Equal(t, code, reject.Code, record)
		assert.Equal(t, path, reject.Path, record)
	}
	byID := func() spec { return spec{"user_id": "p.id"} }
	f(byID(), `{"p":{"id":null}}`, RejectMissingUserID, "")
	f(byID(), `{}`, RejectMissingUserID, "")
	f(byID(), `"text"`, RejectMissingUserID, "")
	f(byID(), `{"p":{"id":true}}`, RejectWrongType, "user_id")
	f(byID(), `{"p":{"id":["u"]}}`, RejectWrongType, "user_id")
	f(byID(), ``, RejectNotJSON, "")
	f(byID(), `{"p":{"id":"u"}}x`, RejectNotJSON, "")
	f(byID(), `{"p":{"id":"u","x":01}}`, RejectNotJSON, "p")
	f(byID(), `{"p":{"id":"u","x":[}}`, RejectNotJSON, "p.x.0")
	f(byID(), `{"p":{"id":"u","q":1,"q":2}}`, RejectDuplicateKey, "p.q")
	f(byID(), `{"p":{"id":"u"},"z":{"q":1,"q":2}}`, RejectDuplicateKey, "z.q")
	f(byID(), `{"p":[{"q":1,"q":2}]}`, RejectDuplicateKey, "p.0.q")
	f(byID(), "{\"p\":{\"id\":\"\xff\"}}", RejectNotUTF8, "")
	f(byID(), `{"p":{"id":"u"},"z":"\ud800"}`, RejectNotUTF8, "z")
	f(byID(), `{"p":{"id":"u"},"z":`+strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth)+`}`, RejectTooDeep, "z"+strings.Repeat(".0", 15)+"...")
	f(spec{"attributes": "t"}, `{"t":[1]}`, RejectWrongType, "attributes")
	f(spec{"attributes": "t", "attributes.a": "a"}, `{"t":[1],"a":1}`, RejectWrongType, "attributes")
	f(spec{"attributes": spec{"from": "t", "rename": spec{"a": "b"}}}, `{"t":{"a":1,"b":2}}`, RejectDuplicateKey, "attributes.b")
	f(spec{"segments.0": "t"}, `{"t":1}`, RejectWrongType, "segments.0")
	f(spec{"decide": "t"}, `{"t":"checkout"}`, RejectWrongType, "decide")
	f(spec{"identifiers": "t"}, `{"t":{"a":true}}`, RejectWrongType, "identifiers.a")
	f(spec{"events": "t"}, `{"t":[{"tags":{}}]}`, RejectMissingField, "events.0.key")
	f(spec{"events.0.key": "k", "events.0.tags": "t"}, `{"k":"k","t":[]}`, RejectWrongType, "events.0.tags")
	f(spec{"forced_decisions.0.flag_key": "f", "forced_decisions.0.variation_key": "v"}, `{"f":"f"}`, RejectMissingField, "forced_decisions.0.variation_key")
}

// A part replaces the member it is named after, under its new name too.
func TestMappingPartsReplaceMembers(t *testing.T) {
	rename := spec{"from": "t", "rename": spec{"a": "b"}}
	a, err := mapped(t, spec{"attributes": rename, "attributes.b": "x"}, `{"t":{"a":1},"x":2}`)
	require.NoError(t, err)
	assert.Equal(t, []Attribute{{"b", Value{Kind: KindNumber, Text: "2"}}}, a.Attributes)
	a, err = mapped(t, spec{"attributes": rename, "attributes.b": "x"}, `{"t":{"a":1}}`)
	require.NoError(t, err)
	assert.Equal(t, []Attribute{{"b", Value{Kind: KindNumber, Text: "1"}}}, a.Attributes, "an absent part replaces nothing")
	a, err = mapped(t, spec{"attributes": constant(spec{"a": 1, "b": 2}), "attributes.b": "x"}, `{"x":3}`)
	require.NoError(t, err)
	assert.Equal(t, []Attribute{{"b", Value{Kind: KindNumber, Text: "3"}}, {"a", Value{Kind: KindNumber, Text: "1"}}}, a.Attributes)
	a, err = mapped(t, spec{"attributes.b": "x"}, `{}`)
	require.NoError(t, err)
	assert.Nil(t, a.Attributes)
	a, err = mapped(t, spec{"identifiers": constant(spec{"n": 7})}, `{}`)
	require.NoError(t, err)
	assert.Equal(t, []Pair{{"n", "7"}}, a.Identifiers)
}

func TestCompileMappingReportsAllFaults(t *testing.T) {
	_, err := CompileMapping(spec{
		"":                       "a",
		"a..b":                   "a",
		"userid":                 "a",
		"user_id.x":              "a",
		"id":                     nil,
		"timestamp":              spec{"from": "a", "unit": "h"},
		"attributes":             spec{"from": "a", "rename": spec{"x": 1, "p": "q", "r": "q"}},
		"attributes.a.b":         "a",
		"identifiers":            spec{"from": "a", "unit": "s"},
		"identifiers.x":          constant(true),
		"segments":               "a",
		"segments.0":             "a",
		"decide":                 constant("checkout"),
		"options.x":              "a",
		"options.1":              constant(1),
		"events":                 spec{"from": "a", "const": 1},
		"events.0.key":           "a",
		"odp_events.0":           "a",
		"odp_events.0.action":    "a",
		"odp_events.1.data":      "a",
		"forced_decisions.0.why": "a",
		"forced_decisions.1.flag_key": constant(spec{
			"x": func() {},
		}),
		"context":                      spec{"from": 17},
		"context.a":                    "items[0]",
		"context.b":                    "a..b",
		"context.c":                    constant(nil),
		"attributes.ok":                "fine",
		"events.1.timestamp":           constant(1.5),
		`attributes.o\k`:               "again",
		"forced_decisions.1000":        "a",
		"odp_events.2.identifiers.x.y": "a",
		"timestamp.x":                  "a",
	})
	var faults *MappingError
	require.ErrorAs(t, err, &faults)
	got := map[string]string{}
	for _, f := range faults.Faults {
		got[f.Field] = f.Message
	}
	known := "attributes, context, decide, events, forced_decisions, id, identifiers, odp_events, options, segments, timestamp, user_id"
	assert.Equal(t, map[string]string{
		"":                                 "is not a path",
		"a..b":                             "is not a path",
		"userid":                           `unknown field "userid", want one of ` + known,
		"user_id":                          "must be mapped",
		"user_id.x":                        `user_id has no parts; a dot inside a key is written \.`,
		"id":                               "want a source path, {const: ...} or {from: ...}",
		"timestamp":                        "unit wants s, ms, us or ns",
		"attributes":                       `rename of "x" wants a string`,
		"attributes.a.b":                   `attributes.a has no parts; a dot inside a key is written \.`,
		"identifiers":                      "unit has no meaning here",
		"identifiers.x":                    "const does not fit the field: record rejected: wrong_type: identifiers.x: want a string",
		"segments.0":                       "segments is already mapped as a whole",
		"decide":                           `const does not fit the field: record rejected: wrong_type: decide: want "*" or an array of flag keys`,
		"options.x":                        `"x" is not an index from 0 to 999`,
		"options.1":                        "const does not fit the field: record rejected: wrong_type: options.0: want a string",
		"events":                           "want exactly one of const and from",
		"events.0.key":                     "events is already mapped as a whole",
		"events.1.timestamp":               "events is already mapped as a whole",
		"odp_events.0.action":              "odp_events.0 is already mapped as a whole",
		"odp_events.1.action":              "must be mapped when other fields of odp_events.1 are",
		"odp_events.2.action":              "must be mapped when other fields of odp_events.2 are",
		"odp_events.2.identifiers.x.y":     `odp_events.2.identifiers.x has no parts; a dot inside a key is written \.`,
		"forced_decisions.0.why":           `unknown field "why", want one of flag_key, rule_key, variation_key`,
		"forced_decisions.1.flag_key":      "const is no JSON value: json: unsupported type: func()",
		"forced_decisions.1.variation_key": "must be mapped when other fields of forced_decisions.1 are",
		"forced_decisions.1000":            `"1000" is not an index from 0 to 999`,
		"context":                          "from wants a source path",
		"context.a":                        `"items[0]": an index is written as a step, such as items.0`,
		"context.b":                        `"a..b" is not a source path`,
		"context.c":                        "const null is the same as no mapping; leave it out",
		"attributes.ok":                    "is mapped twice",
		"timestamp.x":                      `timestamp has no parts; a dot inside a key is written \.`,
	}, got)
	assert.Contains(t, err.Error(), "user_id: must be mapped")

	_, err = CompileMapping(spec{"user_id": "u", "events.0.timestamp": constant(1.5), "events.0.key": constant("k"), "attributes": spec{"from": "a", "rename": []any{}}})
	require.ErrorAs(t, err, &faults)
	assert.Equal(t, []MappingFault{
		{"attributes", "rename wants an object of key: new key"},
		{"events.0.timestamp", "const does not fit the field: record rejected: wrong_type: events.0.timestamp: want an integer of milliseconds or an RFC 3339 time"},
	}, faults.Faults)
}

func sampleMapping(t testing.TB) (*Mapping, []byte) {
	m, err := CompileMapping(spec{
		"user_id": "payload.user.id", "id": "meta.id", "timestamp": "meta.ts",
		"attributes": "payload.traits", "attributes.channel": constant("web"), "events.0.key": "payload.event", "events.0.tags": "payload.props",
	})
	require.NoError(t, err)
	return m, []byte(`{"meta":{"id":"e-1","ts":1790000000000,"producer":{"name":"shop","version":"1.2.3"}},"payload":{"user":{"id":"user-0048213","name":"ignored"},` +
		`"traits":{"plan":"gold","age":31,"beta":true,"country":"DE"},"event":"purchase","props":{"revenue":4200}}}`)
}

func TestMappingDoesNotAllocate(t *testing.T) {
	m, record := sampleMapping(t)
	var d Decoder
	var a Activity
	allocs := testing.AllocsPerRun(100, func() {
		if err := m.Decode(record, &d, &a); err != nil {
			t.Fatal(err)
		}
	})
	assert.Zero(t, allocs)
}

func TestMappingDecodeMoreKeepsEarlierActivities(t *testing.T) {
	m, err := CompileMapping(spec{"user_id": "u", "attributes.n": "n"})
	require.NoError(t, err)
	var d Decoder
	var kept []Activity
	for i := range 100 {
		var a Activity
		text, _ := json.Marshal(spec{"u": i, "n": i})
		require.NoError(t, m.DecodeMore(text, &d, &a))
		kept = append(kept, a)
	}
	for i, a := range kept {
		text, _ := json.Marshal(i)
		assert.Equal(t, string(text), a.UserID)
		assert.Equal(t, string(text), a.Attributes[0].Value.Text)
	}
}

func BenchmarkMappingDecode(b *testing.B) {
	m, record := sampleMapping(b)
	var d Decoder
	var a Activity
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Decode(record, &d, &a); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzMapping holds that a mapping accepts exactly the texts that the decoder
// accepts as a context, and finds in them what encoding/json finds.
func FuzzMapping(f *testing.F) {
	for _, seed := range []string{
		`{"a":{"b":"u"},"t":{"x":1}}`, `{"a":{"b":7},"t":{"x":[1,{"y":"\u0041"}],"x\u0000":null}}`, `[1,{"a":{}}]`, `{"a":[{"b":"u"}],"t":{}}`,
		`{"a":{"b":"u","b":"u"}}`, `{"a":{"b":-1.5e3},"t":{"old":1,"new":2}}`, `{"a":{"b":"u"},"t":{"old":1},"x":"replaces"}`, ``, `{"a":{"b":null}}`,
	} {
		f.Add([]byte(seed))
	}
	m, err := CompileMapping(spec{
		"user_id": "a.b", "attributes": spec{"from": "t", "rename": spec{"old": "new"}}, "attributes.x": "x",
		"events.0.key": "a.0.b", "events.0.tags": "t", "context": "$",
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d, plain Decoder
		var a, context Activity
		err := m.Decode(data, &d, &a)
		text := append(append([]byte(`{"user_id":"","context":[`), data...), "]}"...)
		asContext := plain.Decode(text, &context)
		if err == nil {
			if asContext != nil && !strings.Contains(asContext.Error(), string(RejectTooDeep)) {
				t.Fatalf("%q: accepted, but as context %v", data, asContext)
			}
			var want any
			dec := json.NewDecoder(strings.NewReader(string(data)))
			dec.UseNumber()
			if err := dec.Decode(&want); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			checkRaw(t, a.Context, want)
			b, _ := want.(map[string]any)["a"].(map[string]any)
			switch id := b["b"].(type) {
			case string:
				assert.Equal(t, id, a.UserID)
			case json.Number:
				assert.Equal(t, string(id), a.UserID)
			default:
				t.Fatalf("%q: user id %v", data, id)
			}
			return
		}
		var reject *Reject
		if !errors.As(err, &reject) {
			t.Fatalf("not a *Reject: %v", err)
		}
		if reject.Offset >= 0 && asContext == nil && json.Valid(data) {
			t.Fatalf("%q: %v, but fine as context", data, err)
		}
	})
}
