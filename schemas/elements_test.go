package schemas

import (
	"encoding/json"
	"slices"
	"testing"
)

// FuzzElements: what is found is what encoding/json finds.
func FuzzElements(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"list": [ 1 , {"x":[2,3]},"]",[] ] ,"b":{"list":[9]}} `, `{"list":[]}`, `{"list":{}}`, `{}`, `[]`, ``, `{"list":[1,]}`, `{"list":[1],"list":[2]}`,
		`{"list":[1]} x`, `{"list":[1`, `{"list":["\u00e4\n",-0.5e+3,true,null]}`, "{\"list\":[\"\xff\"]}", `{"a":{"x":1,"x":2},"list":[1]}`, `{"l\u0069st":[7]}`,
	} {
		f.Add([]byte(seed))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, data []byte) {
		spans, ok := d.Elements(nil, data, "list")
		if !ok {
			return
		}
		var whole map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(data, &whole) != nil || json.Unmarshal(whole["list"], &list) != nil {
			t.Fatalf("%q has no list, but %v", data, spans)
		}
		var got []json.RawMessage
		for _, s := range spans {
			got = append(got, data[s.Start:s.End])
		}
		if !slices.EqualFunc(got, list, slices.Equal) {
			t.Fatalf("%q: %q instead of %q", data, got, list)
		}
	})
}

func TestElements(t *testing.T) {
	var d Decoder
	for text, want := range map[string]int{
		`{"a":1,"list": [ 1 , {"x":[2,3]},"]",[] ] ,"b":{"list":[9]}} `: 4, `{"list":[]}`: 0, `{"l\u0069st":["\u00e4"]}`: 1,
		`{"list":{}}`: -1, `{}`: -1, `{"list":[1,]}`: -1, `{"list":[1],"list":[2]}`: -1, `{"list":[1]} x`: -1, "{\"list\":[\"\xff\"]}": -1, `{"a":{"x":1,"x":2},"list":[1]}`: -1,
	} {
		got, ok := d.Elements([]Span{{7, 8}}, []byte(text), "list")
		if ok != (want >= 0) || ok && len(got) != 1+want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
}
