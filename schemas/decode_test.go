package schemas

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func decode(t *testing.T, record string) Activity {
	t.Helper()
	var d Decoder
	var a Activity
	require.NoError(t, d.Decode([]byte(record), &a), record)
	return a
}

const everyField = ` {
		"user_id": "u-17", "id": "e1", "timestamp": 1790000000000,
		"attributes": {"s":"gold","n":1.50,"b":true,"f":false,"z":null,"a":[1, {"x":2}],"o":{"k":"v"},"":""},
		"identifiers": {"email":"a@b.example","vuid":null},
		"segments": ["vip", "new"],
		"decide": ["checkout","checkout",""],
		"options": ["INCLUDE_REASONS"],
		"forced_decisions": [{"flag_key":"f","variation_key":"v"},{"flag_key":"g","rule_key":"r","variation_key":"w","why":1},{"flag_key":"h","rule_key":null,"variation_key":""}],
		"events": [{"key":"purchase","tags":{"revenue":4200, "x":null},"timestamp":"2026-01-02T03:04:05.678Z"},{"key":"view","tags":null,"timestamp":null}],
		"odp_events": [{"action":"viewed"},{"type":"custom","action":"a","identifiers":{"email":"x"},"data":{"k":[1]}}],
		"context": {"a":[1,2,{"b":null}]},
		"new_field": {"deep":[{}]}, "other": null
	} `

var acceptedRecords = []string{
	everyField, string(sampleActivity), `{"user_id":""}`, `{"user_id":"u","decide":"*"}`, `{"user_id":"u","decide":[]}`,
	`{"user_id":"u","timestamp":-62167219200000}`, `{"user_id":"u","timestamp":253402300799999}`, `{"user_id":"u","timestamp":"2026-01-02t03:04:05.123456+23:59"}`,
	`{"user_id":"u","context":null,"attributes":null,"segments":null,"identifiers":{"a":null}}`, `{"user_id":"u","context":7,"x":[[]]}`,
}

func TestDecodeEveryField(t *testing.T) {
	got := decode(t, everyField)
	want := Activity{
		UserID: "u-17", ID: "e1", HasID: true, Timestamp: 1790000000000, HasTimestamp: true,
		Attributes: []Attribute{
			{"s", Value{Kind: KindString, Text: "gold"}},
			{"n", Value{Kind: KindNumber, Text: "1.50"}},
			{"b", Value{Kind: KindBool, Bool: true}},
			{"f", Value{Kind: KindBool}},
			{"z", Value{Kind: KindNull}},
			{"a", Value{Kind: KindComposite, Text: `[1, {"x":2}]`}},
			{"o", Value{Kind: KindComposite, Text: `{"k":"v"}`}},
			{"", Value{Kind: KindString}},
		},
		Identifiers: []Pair{{"email", "a@b.example"}},
		Segments:    []string{"vip", "new"}, HasSegments: true,
		Decide: []string{"checkout", "checkout", ""}, HasDecide: true,
		Options: []string{"INCLUDE_REASONS"},
		Forced: []ForcedDecision{
			{FlagKey: "f", VariationKey: "v"},
			{FlagKey: "g", RuleKey: "r", VariationKey: "w", HasRule: true},
			{FlagKey: "h"},
		},
		Events: []Conversion{
			{Key: "purchase", Tags: []byte(`{"revenue":4200, "x":null}`), Timestamp: 1767323045678, HasTimestamp: true},
			{Key: "view"},
		},
		ODPEvents: []ODPEvent{
			{Action: "viewed"},
			{Type: "custom", HasType: true, Action: "a", Identifiers: []Pair{{"email", "x"}}, Data: []byte(`{"k":[1]}`)},
		},
		Context: []byte(`{"a":[1,2,{"b":null}]}`),
		Unknown: 3,
	}
	assert.Equal(t, want, got)
}

func TestDecodeAbsentNullAndEmptyDiffer(t *testing.T) {
	absent := decode(t, `{"user_id":""}`)
	assert.Equal(t, Activity{}, absent)

	null := decode(t, `{"user_id":"","id":null,"timestamp":null,"attributes":null,"identifiers":null,"segments":null,
		"decide":null,"options":null,"forced_decisions":null,"events":null,"odp_events":null,"context":null}`)
	assert.Equal(t, absent, null, "null is absent")

	empty := decode(t, `{"user_id":"","id":"","attributes":{},"identifiers":{},"segments":[],"decide":[],
		"options":[],"forced_decisions":[],"events":[],"odp_events":[],"context":""}`)
	assert.True(t, empty.HasID)
	assert.True(t, empty.HasSegments)
	assert.True(t, empty.HasDecide)
	for name, isNil := range map[string]bool{
		"attributes": empty.Attributes == nil, "identifiers": empty.Identifiers == nil, "segments": empty.Segments == nil,
		"decide": empty.Decide == nil, "options": empty.Options == nil, "forced": empty.Forced == nil,
		"events": empty.Events == nil, "odp": empty.ODPEvents == nil, "context": empty.Context == nil,
	} {
		assert.False(t, isNil, name)
	}

	all := decode(t, `{"user_id":"u","decide":"\u002a"}`)
	assert.True(t, all.DecideAll)
	assert.True(t, all.HasDecide)
}

func TestDecodeStrings(t *testing.T) {
	for in, want := range map[string]string{
		`""`:                           "",
		`"plain"`:                      "plain",
		`"\"\\\/\b\f\n\r\t"`:           "\"\\/\b\f\n\r\t",
		`"\u0000"`:                     "\x00",
		`"\u00e9\u00E9\u20ac"`:         "éé€",
		`"\ud83d\ude00"`:               "😀",
		`"\uD83D\uDE00 and then some"`: "😀 and then some",
		`"é€😀"`:                        "é€😀",
		"\"\x7f\u2028\"":               "\x7f\u2028",
		`"1234567"`:                    "1234567",
		`"12345678"`:                   "12345678",
		`"123456789\n"`:                "123456789\n",
		`"\ufffd"`:                     "\ufffd",
	} {
		assert.Equal(t, want, decode(t, `{"user_id":`+in+`}`).UserID, in)
		// The same at the very end of the record's bytes, for the scan by eights.
		assert.Equal(t, want, decode(t, `{"pad":"padding, padding","user_id":`+in+`}`).UserID, in)
	}
}

// Every byte value at every position of a string around the scan's stride.
func TestDecodeStringScanFindsEveryByte(t *testing.T) {
	var d Decoder
	var a Activity
	for length := range 20 {
		for at := range length {
			for c := range 128 {
				text := []byte(strings.Repeat("x", length))
				text[at] = byte(c)
				record := `{"user_id":"` + string(text) + `"}`
				err := d.Decode([]byte(record), &a)
				if !json.Valid([]byte(record)) {
					require.Error(t, err, "%q", record)
					continue
				}
				require.NoError(t, err, "%q", record)
				require.Equal(t, string(text), a.UserID)
			}
		}
	}
}

// deep puts brackets around nothing, n of them, into a record.
func deep(n int, in string) string {
	return `{"user_id":"u",` + fmt.Sprintf(in, strings.Repeat("[", n), strings.Repeat("]", n)) + `}`
}

var rejectTests = []struct {
	record string
	code   RejectCode
	path   string
}{
	{``, RejectNotJSON, ""},
	{`   `, RejectNotJSON, ""},
	{`{`, RejectNotJSON, ""},
	{`{"user_id"`, RejectNotJSON, ""},
	{`{"user_id":`, RejectNotJSON, ""},
	{`{"user_id":"u`, RejectNotJSON, "user_id"},
	{`{"user_id":"u\`, RejectNotJSON, "user_id"},
	{`{"user_id":"u"`, RejectNotJSON, ""},
	{`{"user_id":"u",`, RejectNotJSON, ""},
	{`{"user_id":"u",}`, RejectNotJSON, ""},
	{`{,"user_id":"u"}`, RejectNotJSON, ""},
	{`{"user_id":"u"}}`, RejectNotJSON, ""},
	{`{"user_id":"u"} {"user_id":"v"}`, RejectNotJSON, ""},
	{`{"user_id":"u" "id":"v"}`, RejectNotJSON, ""},
	{`{"user_id" "u"}`, RejectNotJSON, ""},
	{`{user_id:"u"}`, RejectNotJSON, ""},
	{`{'user_id':'u'}`, RejectNotJSON, ""},
	{"\xef\xbb\xbf" + `{"user_id":"u"}`, RejectNotJSON, ""},
	{"{\"user_id\":\"a\tb\"}", RejectNotJSON, "user_id"},
	{"{\"user_id\":\"a\x00b\"}", RejectNotJSON, "user_id"},
	{"{\v\"user_id\":\"a\"}", RejectNotJSON, ""},
	{`{"user_id":"\x"}`, RejectNotJSON, "user_id"},
	{`{"user_id":"\u12"}`, RejectNotJSON, "user_id"},
	{`{"user_id":"\u12G4"}`, RejectNotJSON, "user_id"},
	{`{"user_id":"\ud800\u12"}`, RejectNotJSON, "user_id"},
	{`{"user_id":"u","context":NaN}`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":nul}`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":tru}`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":fals`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":+1}`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":[1,]}`, RejectNotJSON, "context.1"},
	{`{"user_id":"u","context":[1 2]}`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":[`, RejectNotJSON, "context"},
	{`{"user_id":"u","context":[,1]}`, RejectNotJSON, "context.0"},
	{`{"user_id":"u","context":{"a":[0,{"b":01}]}}`, RejectNotJSON, "context.a.1"},
	{`{"user_id":"u","attributes":{"n":-}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":"u","attributes":{"n":1.}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":"u","attributes":{"n":.5}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":"u","attributes":{"n":1e}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":"u","attributes":{"n":1e+}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":"u","attributes":{"n":0x10}}`, RejectNotJSON, "attributes"},
	{`{"user_id":"u","attributes":{"n":Infinity}}`, RejectNotJSON, "attributes.n"},
	{`{"user_id":bad}`, RejectNotJSON, "user_id"},

	{"{\"user_id\":\"\xff\"}", RejectNotUTF8, ""},
	{"{\"user_id\":\"\xc0\xaf\"}", RejectNotUTF8, ""},
	{"{\"user_id\":\"\xed\xa0\x80\"}", RejectNotUTF8, ""},
	{"{\"user_id\":\"u\",\"ignored\":{\"x\":\"\x80\"}}", RejectNotUTF8, ""},
	{"\xff not even json", RejectNotUTF8, ""},
	{`{"user_id":"\ud800"}`, RejectNotUTF8, "user_id"},
	{`{"user_id":"\udc00\ud800"}`, RejectNotUTF8, "user_id"},
	{`{"user_id":"\ud800\ud800"}`, RejectNotUTF8, "user_id"},
	{`{"user_id":"\ud800x"}`, RejectNotUTF8, "user_id"},
	{`{"user_id":"u","ignored":["\ud800"]}`, RejectNotUTF8, "ignored.0"},

	{`{"user_id":"u","user_id":"u"}`, RejectDuplicateKey, "user_id"},
	{`{"user_id":"u","user\u005fid":"u"}`, RejectDuplicateKey, "user_id"},
	{`{"user_id":"u","id":null,"id":"x"}`, RejectDuplicateKey, "id"},
	{`{"user_id":"u","x":1,"x":1}`, RejectDuplicateKey, "x"},
	{`{"user_id":"u","attributes":{"a":1,"b":2,"a":1}}`, RejectDuplicateKey, "attributes.a"},
	{`{"user_id":"u","attributes":{"a":{"b":[{"c":1,"c":1}]}}}`, RejectDuplicateKey, "attributes.a.b.0.c"},
	{`{"user_id":"u","identifiers":{"a":null,"a":"1"}}`, RejectDuplicateKey, "identifiers.a"},
	{`{"user_id":"u","context":{"a":1,"a":1}}`, RejectDuplicateKey, "context.a"},
	{`{"user_id":"u","ignored":{"a":1,"a":1}}`, RejectDuplicateKey, "ignored.a"},
	{`{"user_id":"u","events":[{"key":"k"},{"key":"k","key":"k"}]}`, RejectDuplicateKey, "events.1.key"},
	{`{"user_id":"u","events":[{"key":"k","q":0,"q":0}]}`, RejectDuplicateKey, "events.0.q"},
	{`{"user_id":"u","events":[{"key":"k","tags":{"a":{},"a":{}}}]}`, RejectDuplicateKey, "events.0.tags.a"},
	{`{"user_id":"u","odp_events":[{"action":"a","data":{"x":[{"a":1,"a":1}]}}]}`, RejectDuplicateKey, "odp_events.0.data.x.0.a"},
	{`{"user_id":"u","forced_decisions":[{"flag_key":"f","flag_key":"f"}]}`, RejectDuplicateKey, "forced_decisions.0.flag_key"},
	{`{"user_id":"u","context":{"a.b":{"":1,"":1}}}`, RejectDuplicateKey, `context."a.b".""`},

	{`{}`, RejectMissingUserID, ""},
	{`{"user_id":null}`, RejectMissingUserID, ""},
	{`{"attributes":{"a":1}}`, RejectMissingUserID, ""},

	{`{"user_id":"u","events":[{}]}`, RejectMissingField, "events.0.key"},
	{`{"user_id":"u","events":[{"key":null}]}`, RejectMissingField, "events.0.key"},
	{`{"user_id":"u","odp_events":[{"type":"t"}]}`, RejectMissingField, "odp_events.0.action"},
	{`{"user_id":"u","forced_decisions":[{"variation_key":"v"}]}`, RejectMissingField, "forced_decisions.0.flag_key"},
	{`{"user_id":"u","forced_decisions":[{"flag_key":"f"}]}`, RejectMissingField, "forced_decisions.0.variation_key"},

	{`[]`, RejectWrongType, ""},
	{`"u"`, RejectWrongType, ""},
	{`null`, RejectWrongType, ""},
	{`12`, RejectWrongType, ""},
	{`[1,`, RejectNotJSON, ""},
	{`{"user_id":17}`, RejectWrongType, "user_id"},
	{`{"user_id":["u"]}`, RejectWrongType, "user_id"},
	{`{"user_id":"u","id":7}`, RejectWrongType, "id"},
	{`{"user_id":"u","timestamp":1.5}`, RejectWrongType, "timestamp"},
	{`{"user_id":"u","timestamp":1e12}`, RejectWrongType, "timestamp"},
	{`{"user_id":"u","timestamp":true}`, RejectWrongType, "timestamp"},
	{`{"user_id":"u","timestamp":"1790000000000"}`, RejectWrongType, "timestamp"},
	{`{"user_id":"u","timestamp":"2026-01-02 03:04:05Z"}`, RejectWrongType, "timestamp"},
	{`{"user_id":"u","attributes":[]}`, RejectWrongType, "attributes"},
	{`{"user_id":"u","identifiers":{"a":1}}`, RejectWrongType, "identifiers.a"},
	{`{"user_id":"u","identifiers":"a"}`, RejectWrongType, "identifiers"},
	{`{"user_id":"u","segments":"vip"}`, RejectWrongType, "segments"},
	{`{"user_id":"u","segments":["vip",null]}`, RejectWrongType, "segments.1"},
	{`{"user_id":"u","decide":"checkout"}`, RejectWrongType, "decide"},
	{`{"user_id":"u","decide":true}`, RejectWrongType, "decide"},
	{`{"user_id":"u","decide":[1]}`, RejectWrongType, "decide.0"},
	{`{"user_id":"u","options":{}}`, RejectWrongType, "options"},
	{`{"user_id":"u","events":{}}`, RejectWrongType, "events"},
	{`{"user_id":"u","events":["purchase"]}`, RejectWrongType, "events.0"},
	{`{"user_id":"u","events":[null]}`, RejectWrongType, "events.0"},
	{`{"user_id":"u","events":[{"key":"k","tags":[]}]}`, RejectWrongType, "events.0.tags"},
	{`{"user_id":"u","odp_events":7}`, RejectWrongType, "odp_events"},
	{`{"user_id":"u","odp_events":[[]]}`, RejectWrongType, "odp_events.0"},
	{`{"user_id":"u","odp_events":[{"action":"a","data":"x"}]}`, RejectWrongType, "odp_events.0.data"},
	{`{"user_id":"u","odp_events":[{"action":"a","identifiers":{"x":1}}]}`, RejectWrongType, "odp_events.0.identifiers.x"},
	{`{"user_id":"u","forced_decisions":""}`, RejectWrongType, "forced_decisions"},
	{`{"user_id":"u","forced_decisions":[1]}`, RejectWrongType, "forced_decisions.0"},
	{`{"user_id":"u","forced_decisions":[{"flag_key":1}]}`, RejectWrongType, "forced_decisions.0.flag_key"},

	{`{"user_id":"u","timestamp":253402300800000}`, RejectOutOfRange, "timestamp"},
	{`{"user_id":"u","timestamp":-62167219200001}`, RejectOutOfRange, "timestamp"},
	{`{"user_id":"u","events":[{"key":"k","timestamp":99999999999999999999999999}]}`, RejectOutOfRange, "events.0.timestamp"},

	{deep(MaxDepth, `"context":%s%s`), RejectTooDeep, "context" + strings.Repeat(".0", 15) + "..."},
	{deep(MaxDepth, `"ignored":%s%s`), RejectTooDeep, "ignored" + strings.Repeat(".0", 15) + "..."},
	{deep(MaxDepth-1, `"attributes":{"a":%s%s}`), RejectTooDeep, "attributes.a" + strings.Repeat(".0", 14) + "..."},
	{deep(MaxDepth-3, `"events":[{"key":"k","tags":{"a":%s%s}}]`), RejectTooDeep, "events.0.tags.a" + strings.Repeat(".0", 12) + "..."},
}

func TestDecodeRejects(t *testing.T) {
	var d Decoder
	for _, test := range rejectTests {
		var a Activity
		err := d.Decode([]byte(test.record), &a)
		var reject *Reject
		if !assert.ErrorAs(t, err, &reject, test.record) {
			continue
		}
		assert.Equal(t, test.code, reject.Code, "%s: %s", test.record, err)
		assert.Equal(t, test.path, reject.Path, test.record)
		assert.ErrorIs(t, err, &Reject{Code: test.code})
		assert.NotErrorIs(t, err, &Reject{Code: "other"})
		// And the decoder is as good as new.
		require.NoError(t, d.Decode([]byte(`{"user_id":"next","attributes":{"a":1}}`), &a))
		require.Equal(t, "next", a.UserID)
	}
}

func TestDecodeDepthLimitIsExact(t *testing.T) {
	for depth, ok := range map[int]bool{MaxDepth - 1: true, MaxDepth: false} {
		n := depth
		record := `{"user_id":"u","context":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
		var d Decoder
		err := d.Decode([]byte(record), new(Activity))
		assert.Equal(t, ok, err == nil, "depth %d", depth+1)
	}
}

func TestRejectShowsNoValue(t *testing.T) {
	const secret = "s3cr3t"
	for _, record := range []string{
		`{"user_id":["s3cr3t"]}`,
		`{"user_id":"s3cr3t","timestamp":"s3cr3t"}`,
		`{"user_id":"s3cr3t","attributes":"s3cr3t"}`,
		`{"user_id":"s3cr3t","attributes":{"a":"s3cr3t\x"}}`,
		`{"user_id":"s3cr3t","decide":"s3cr3t"}`,
		`{"user_id":"s3cr3t"} s3cr3t`,
		`{"user_id":"s3cr3t","context":s3cr3t}`,
	} {
		var d Decoder
		err := d.Decode([]byte(record), new(Activity))
		require.Error(t, err)
		assert.NotContains(t, err.Error(), secret)
	}
}

// Rejects outlive the decoder's next record and the record's own bytes.
func TestRejectKeepsNothing(t *testing.T) {
	record := []byte(`{"user_id":"u","attributes":{"plan\u0021":1,"plan!":2}}`)
	var d Decoder
	err := d.Decode(record, new(Activity))
	require.Error(t, err)
	before := strings.Clone(err.Error())
	for i := range record {
		record[i] = '#'
	}
	_ = d.Decode([]byte(`{"user_id":"\u0041\u0041\u0041\u0041\u0041\u0041\u0041","z":{"y":1,"y":1}}`), new(Activity))
	assert.Equal(t, before, err.Error())
	assert.Contains(t, err.Error(), "attributes.plan!")
}

func TestRejectPathIsSafeToPrint(t *testing.T) {
	long := strings.Repeat("é", 100)
	for key, want := range map[string]string{
		`a b`: `context."a b"`,
		`\n`:  `context."\n"`,
		`a"b`: `context."a\"b"`,
		long:  "context." + strings.Repeat("é", 32) + "...",
		`\u0`: `context."\\u0"`,
	} {
		k, _ := json.Marshal(key)
		if key == `\n` {
			k = []byte(`"\n"`)
		}
		var d Decoder
		err := d.Decode([]byte(`{"user_id":"u","context":{`+string(k)+`:1,`+string(k)+`:1}}`), new(Activity))
		var reject *Reject
		require.ErrorAs(t, err, &reject)
		assert.Equal(t, want, reject.Path)
	}
}

func TestDecodeLargeObjects(t *testing.T) {
	object := func(n int, last string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			fmt.Fprintf(&b, `"key%d":{"a":%d,"b":[{"c":1}]},`, i, i)
		}
		b.WriteString(`"` + last + `":0}`)
		return b.String()
	}
	var d Decoder
	var a Activity
	for _, n := range []int{smallObject - 2, smallObject - 1, smallObject, smallObject + 1, 100, 40000} {
		for _, field := range []string{"attributes", "context", "ignored"} {
			fresh := `{"user_id":"u","` + field + `":` + object(n, "last") + `}`
			require.NoError(t, d.Decode([]byte(fresh), &a), "%d", n)
			for _, repeated := range []int{0, n / 2, n - 1} {
				key := "key" + strconv.Itoa(repeated)
				err := d.Decode([]byte(`{"user_id":"u","`+field+`":`+object(n, key)+`}`), &a)
				var reject *Reject
				require.ErrorAs(t, err, &reject)
				require.Equal(t, RejectDuplicateKey, reject.Code)
				require.Equal(t, field+"."+key, reject.Path)
			}
		}
	}
	// Two large objects side by side, and one inside another, share no keys.
	side := `{"user_id":"u","context":[` + object(30, "x") + `,` + object(30, "x") + `],"attributes":{"o":` + object(30, "x") + `}}`
	require.NoError(t, d.Decode([]byte(side), &a))
	nested := object(30, "x")
	nested = `{"user_id":"u","context":` + strings.Replace(nested, `{"c":1}`, nested, 1) + `}`
	require.NoError(t, d.Decode([]byte(nested), &a))
}

func TestDecodeMoreKeepsEarlierActivities(t *testing.T) {
	var d Decoder
	var kept []Activity
	for i := range 200 {
		var a Activity
		record := fmt.Sprintf(`{"user_id":"\u0075%d","attributes":{"n\u0031":%d,"x":"\u0041%d"},"segments":["s%d"],"decide":["f%d"],`+
			`"identifiers":{"e":"%d"},"events":[{"key":"k%d"}],"odp_events":[{"action":"a%d","identifiers":{"i":"%d"}}],"forced_decisions":[{"flag_key":"%d","variation_key":"v"}]}`,
			i, i, i, i, i, i, i, i, i, i)
		require.NoError(t, d.DecodeMore([]byte(record), &a))
		kept = append(kept, a)
	}
	for i, a := range kept {
		n := strconv.Itoa(i)
		want := Activity{
			UserID: "u" + n, Attributes: []Attribute{{"n1", Value{Kind: KindNumber, Text: n}}, {"x", Value{Kind: KindString, Text: "A" + n}}},
			Segments: []string{"s" + n}, HasSegments: true, Decide: []string{"f" + n}, HasDecide: true, Identifiers: []Pair{{"e", n}},
			Events: []Conversion{{Key: "k" + n}}, ODPEvents: []ODPEvent{{Action: "a" + n, Identifiers: []Pair{{"i", n}}}},
			Forced: []ForcedDecision{{FlagKey: n, VariationKey: "v"}},
		}
		require.Equal(t, want, a)
	}
}

// The documentation says that an Activity dies with the next Decode and with
// its data. This shows that it really aliases both, so that a caller who keeps
// one finds out in tests, and that nothing else is touched.
func TestActivityAliasesWhatItSays(t *testing.T) {
	var d Decoder
	var a, b Activity
	record := []byte(`{"user_id":"plain","id":"esc\u0061ped","attributes":{"k":"v"}}`)
	require.NoError(t, d.Decode(record, &a))
	copy(record[12:], "XXXXX")
	assert.Equal(t, "XXXXX", a.UserID, "strings without escapes alias the record")
	require.NoError(t, d.Decode([]byte(`{"user_id":"\u0042BBBBBB","attributes":{"q":"w"}}`), &b))
	assert.Equal(t, "BBBBBBB", a.ID, "strings with escapes alias the decoder")
	assert.Equal(t, "q", a.Attributes[0].Key, "slices alias the decoder")

	// Appending to a slice that was handed out never reaches another's elements.
	require.NoError(t, d.Decode([]byte(`{"user_id":"u","segments":["a"],"decide":["b"]}`), &a))
	_ = append(a.Segments, "clobber")
	assert.Equal(t, []string{"b"}, a.Decide)
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	records := [][]byte{
		sampleActivity,
		[]byte(`{"user_id":"\u0075","timestamp":"2026-01-02T03:04:05+02:00","identifiers":{"e":"x"},"options":["A"],"decide":"*",` +
			`"forced_decisions":[{"flag_key":"f","rule_key":"r","variation_key":"v"}],"events":[{"key":"k","tags":{"revenue":1}}],` +
			`"odp_events":[{"action":"a","identifiers":{"e":"x"},"data":{"a":[1]}}],"context":{"a":{"b":[1,2,3]}},"unknown":[{}]}`),
		[]byte(`{"user_id":"u","attributes":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"s":1}}`),
	}
	var d Decoder
	var a Activity
	allocs := testing.AllocsPerRun(200, func() {
		for _, record := range records {
			if err := d.Decode(record, &a); err != nil {
				t.Fatal(err)
			}
		}
	})
	assert.Zero(t, allocs)
}

func TestDecoderLetsGoOfGiants(t *testing.T) {
	var d Decoder
	var a Activity
	giant := `{"user_id":"` + strings.Repeat(`\u0041`, maxKeptBytes+1) + `","segments":["a"` + strings.Repeat(`,"a"`, maxKeptEntries+1) + `]}`
	require.NoError(t, d.Decode([]byte(giant), &a))
	require.Len(t, a.UserID, maxKeptBytes+1)
	d.Reset()
	assert.LessOrEqual(t, cap(d.unescaped), maxKeptBytes)
	assert.LessOrEqual(t, cap(d.strings), maxKeptEntries)
}

func TestRejectCodesAreDistinct(t *testing.T) {
	seen := map[RejectCode]bool{}
	for _, code := range RejectCodes() {
		assert.False(t, seen[code], code)
		seen[code] = true
	}
	err := error(LineTooLong(16))
	assert.ErrorIs(t, err, &Reject{Code: RejectLineTooLong})
	assert.Equal(t, "record rejected: line_too_long: longer than 16 bytes", err.Error())
}
