package decision

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Conversions. Source: events.md sections 4 and 7.

func purchaseProject(t testing.TB) *Project {
	return compiled(t, file(object{"events": array{
		object{"id": "901", "key": "purchase", "experimentIds": array{"unknown"}}, object{"id": "902", "key": "", "experimentIds": array{}},
	}}))
}

// conversionEvent is events[0] of a conversion without uuid and timestamp.
func conversionEvent(t *testing.T, p *Project, tags string) string {
	t.Helper()
	var raw []byte
	if tags != "" {
		raw = []byte(tags)
	}
	c, ok := p.Conversion("purchase", raw)
	require.True(t, ok)
	u := userOf(t, p, "", "")
	got := string(c.AppendVisitor(nil, u, testUUID, 7))
	const head = `{"visitor_id":"","attributes":[],"snapshots":[{"events":[{"entity_id":"901","key":"purchase","uuid":"` + testUUID + `","timestamp":7`
	require.True(t, strings.HasPrefix(got, head), got)
	require.True(t, json.Valid([]byte(got)), got)
	return strings.TrimSuffix(strings.TrimPrefix(got, head), "}]}]}")
}

// Source: EV-27 to EV-32, the observed table; EV-4, EV-P4 to EV-P7.
func TestTags(t *testing.T) {
	p := purchaseProject(t)
	for tags, want := range map[string]string{
		"": "", `null`: "", `[]`: "", `""`: "", `"x"`: "", `5`: "", `true`: "", `[1]`: "", ` `: "", // EV-P4: only an object counts
		`{}`: `,"tags":{}`, ` { } `: `,"tags": { } `,
		`{"revenue":4200,"value":9.5,"category":"shoes","quantity":3}`: `,"revenue":4200,"value":9.5,"tags":{"revenue":4200,"value":9.5,"category":"shoes","quantity":3}`,
		`{"revenue":42.0}`: `,"tags":{"revenue":42.0}`, `{"revenue":"42"}`: `,"tags":{"revenue":"42"}`, `{"revenue":true}`: `,"tags":{"revenue":true}`,
		`{"revenue":4e2}`: `,"tags":{"revenue":4e2}`, `{"revenue":[1]}`: `,"tags":{"revenue":[1]}`, `{"revenue":{}}`: `,"tags":{"revenue":{}}`,
		`{"revenue":null,"value":null,"x":null}`:     `,"tags":{"x":null}`,
		`{"revenue":0,"value":0}`:                    `,"revenue":0,"value":0.0,"tags":{"revenue":0,"value":0}`,
		`{"revenue":-5,"value":"12.50"}`:             `,"revenue":-5,"value":12.5,"tags":{"revenue":-5,"value":"12.50"}`,
		`{"revenue":-0}`:                             `,"revenue":-0,"tags":{"revenue":-0}`,
		`{"revenue":123456789012345678901234567890}`: `,"revenue":123456789012345678901234567890,"tags":{"revenue":123456789012345678901234567890}`,
		`{"value":" 7 "}`:                            `,"value":7.0,"tags":{"value":" 7 "}`, `{"value":"1e3"}`: `,"value":1000.0,"tags":{"value":"1e3"}`, `{"value":10}`: `,"value":10.0,"tags":{"value":10}`,
		`{"value":".5"}`: `,"value":0.5,"tags":{"value":".5"}`, `{"value":"5."}`: `,"value":5.0,"tags":{"value":"5."}`, `{"value":"1_000"}`: `,"value":1000.0,"tags":{"value":"1_000"}`,
		`{"value":"\u0031\t"}`: `,"value":1.0,"tags":{"value":"\u0031\t"}`, `{"value":-1.5E2}`: `,"value":-150.0,"tags":{"value":-1.5E2}`, `{"value":"+1"}`: `,"value":1.0,"tags":{"value":"+1"}`,
		`{"value":"1,234"}`: `,"tags":{"value":"1,234"}`, `{"value":"abc"}`: `,"tags":{"value":"abc"}`, `{"value":"nan"}`: `,"tags":{"value":"nan"}`, `{"value":"inf"}`: `,"tags":{"value":"inf"}`,
		`{"value":"Infinity"}`: `,"tags":{"value":"Infinity"}`, `{"value":"0x10"}`: `,"tags":{"value":"0x10"}`, `{"value":true}`: `,"tags":{"value":true}`, `{"value":[1]}`: `,"tags":{"value":[1]}`,
		`{"value":""}`: `,"tags":{"value":""}`, `{"value":{"a":1}}`: `,"tags":{"value":{"a":1}}`, `{"value":"1e400"}`: `,"tags":{"value":"1e400"}`, `{"value":false}`: `,"tags":{"value":false}`,
		`{"value":1e400}`:                         `,"tags":{"value":1e400}`, // EV-P6: too large for a double
		`{"value":"1__0"}`:                        `,"tags":{"value":"1__0"}`,
		`{"Value":1,"REVENUE":1}`:                 `,"tags":{"Value":1,"REVENUE":1}`,
		`{"a":{"revenue":1,"value":2}}`:           `,"tags":{"a":{"revenue":1,"value":2}}`,
		`{"a":{"b":1,"value":null},"list":[1,2]}`: `,"tags":{"a":{"b":1},"list":[1,2]}`,
		`{"list":[null,{"tags":null,"x":null},[{"decisions":null}],{"revenue":null,"y":[]}]}`: `,"tags":{"list":[null,{"x":null},[{}],{"y":[]}]}`,
		`{"tags":{"tags":null},"decisions":{"value":[null]}}`:                                 `,"tags":{"tags":{},"decisions":{"value":[null]}}`,
		`{"val\u0075e":null,"x\u0000":null,"y":"null"}`:                                       `,"tags":{"x\u0000":null,"y":"null"}`,                 // names count as what they say
		`{"a":1.10,"b":12345678901234567890,"c":1E5}`:                                         `,"tags":{"a":1.10,"b":12345678901234567890,"c":1E5}`, // EV-P5
		"{ \"a\" : \"\\ud800\" , \"value\" : null ,\n\"b\" : [ null , 1 ] }":                  `,"tags":{"a":"\ud800","b":[null,1]}`,
		`{"é<&>":null,"quote\"":null}`:                                                        `,"tags":{"é<&>":null,"quote\"":null}`,
		`{"quantity":5}`:                                                                      `,"tags":{"quantity":5}`, // EV-32
	} {
		require.Equal(t, want, conversionEvent(t, p, tags), tags)
	}
}

// Source: EV-13, EV-14.
func TestUnknownEvents(t *testing.T) {
	p := purchaseProject(t)
	for _, key := range []string{"", "nope", "PURCHASE", "purchase ", "901"} {
		_, ok := p.Conversion(key, nil)
		require.False(t, ok, key)
	}
	c, ok := p.Conversion("purchase", nil)
	require.True(t, ok, "attached to no experiment that exists")
	require.Equal(t, Conversion{EntityID: "901", Key: "purchase"}, c)
}

// referenceTags says what events.md asks of tags on the decoded tree: what is
// sent, revenue and value as JSON or "".
func referenceTags(object map[string]any) (sent map[string]any, revenue string, value *float64) {
	if n, ok := object["revenue"].(json.Number); ok && !strings.ContainsAny(n.String(), ".eE") {
		revenue = n.String()
	}
	switch v := object["value"].(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil {
			value = &f
		}
	case string:
		if f, ok := parseDecimal(v); ok {
			value = &f
		}
	}
	sent, _ = stripped(object).(map[string]any)
	return sent, revenue, value
}

func stripped(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			isOurs := k == "revenue" || k == "value" || k == "tags" || k == "decisions"
			if x != nil || !isOurs {
				out[k] = stripped(x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = stripped(v[i])
		}
		return out
	}
	return v
}

func FuzzTags(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"revenue":4200,"value":"12.50","x":null}`, `{"a":{"value":null,"b":[null,{"tags":null}]}}`, `[null]`, `{"value":1e400}`, `{"val\u0075e":null}`,
		`{"a":"\"null\"","b":"\\"}`, ` {"revenue" : -5 , "value" : " .5e1 "}`, `{"value":[{"value":null}]}`, `null`, "{\"\\ud800\":null}", `{"value":"٣"}`,
	} {
		f.Add([]byte(seed))
	}
	p := purchaseProject(f)
	f.Fuzz(func(t *testing.T, tags []byte) {
		if !json.Valid(tags) || !bytes.Equal(bytes.ToValidUTF8(tags, nil), tags) || hasRepeatedKeys(tags) {
			return // Conversion asks for a valid object without repeated keys
		}
		before := string(tags)
		c, ok := p.Conversion("purchase", tags)
		require.True(t, ok)
		require.Equal(t, before, string(tags), "the input isn't touched")
		tree, err := parseTree(tags)
		require.NoError(t, err)
		object, ok := tree.(map[string]any)
		if !ok {
			require.Equal(t, Conversion{EntityID: "901", Key: "purchase"}, c)
			return
		}
		sent, revenue, value := referenceTags(object)
		require.True(t, json.Valid(c.Tags), "%s", c.Tags)
		got, err := parseTree(c.Tags)
		require.NoError(t, err)
		require.Equal(t, any(sent), got)
		require.Equal(t, revenue, c.Revenue)
		require.Equal(t, value != nil, c.HasValue)
		if value != nil {
			require.InDelta(t, *value, c.Value, 0)
			require.False(t, math.IsInf(c.Value, 0) || math.IsNaN(c.Value))
		}
		require.True(t, json.Valid(c.AppendVisitor(nil, userOf(t, p, "u", ""), testUUID, 1)))
	})
}
