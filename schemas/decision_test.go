package schemas

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sampleRecord is the record of the design: one flag decided by a test, and
// besides one that no rule decided and one that failed.
func sampleRecord() *DecisionRecord {
	return &DecisionRecord{
		ID: "5b1f0000-0000-4000-8000-000000000000", ActivityID: "activities/3/1042", UserID: "u-17", Timestamp: 1790000000000,
		Revision: "42", Datafile: "sha256:9c1e", Source: Source{Topic: "activities", Partition: 3, Offset: 1042},
		Segments: []string{"vip"}, HasSegments: true,
		Decisions: []FlagDecision{
			{
				ID: "5b1f0000-0000-4000-8000-000000000001", FlagKey: "checkout", Enabled: true, VariationKey: "treatment", HasVariation: true,
				RuleKey: "checkout_test", HasRule: true, RuleType: "feature-test", ExperimentID: "30001", VariationID: "50002",
				Variables: `{"color":"red","limit":3}`,
			},
			{ID: "5b1f0000-0000-4000-8000-000000000002", FlagKey: "banner", RuleType: "rollout", Variables: `{}`, Reasons: []Reason{
				{Code: "not_in_audience", RuleKey: "r1", Detail: `audience "a"`}, {Code: "no_rule"},
			}},
			{ID: "5b1f0000-0000-4000-8000-000000000003", FlagKey: "nope", Error: "flag_not_found"},
		},
		Context: []byte(`{}`),
	}
}

func TestDecisionRecordNested(t *testing.T) {
	want := `{"id":"5b1f0000-0000-4000-8000-000000000000","activity_id":"activities/3/1042","user_id":"u-17","timestamp":1790000000000,` +
		`"revision":"42","datafile":"sha256:9c1e","source":{"topic":"activities","partition":3,"offset":1042},` +
		`"segments":["vip"],` +
		`"decisions":[{"flag_key":"checkout","enabled":true,"variation_key":"treatment","rule_key":"checkout_test","rule_type":"feature-test",` +
		`"experiment_id":"30001","variation_id":"50002","variables":{"color":"red","limit":3},"reasons":[]},` +
		`{"flag_key":"banner","enabled":false,"variation_key":null,"rule_key":null,"rule_type":"rollout",` +
		`"experiment_id":null,"variation_id":null,"variables":{},"reasons":[{"code":"not_in_audience","rule_key":"r1","detail":"audience \"a\""},{"code":"no_rule"}]},` +
		`{"flag_key":"nope","enabled":false,"variation_key":null,"rule_key":null,"rule_type":null,` +
		`"experiment_id":null,"variation_id":null,"variables":{},"error":"flag_not_found","reasons":[]}],` +
		`"context":{}}`
	assert.Equal(t, want, string(sampleRecord().AppendJSON(nil)))
}

func TestDecisionRecordFlat(t *testing.T) {
	r := sampleRecord()
	want := `{"id":"5b1f0000-0000-4000-8000-000000000001","activity_id":"activities/3/1042","user_id":"u-17","timestamp":1790000000000,` +
		`"revision":"42","datafile":"sha256:9c1e","source":{"topic":"activities","partition":3,"offset":1042},` +
		`"segments":["vip"],` +
		`"flag_key":"checkout","enabled":true,"variation_key":"treatment","rule_key":"checkout_test","rule_type":"feature-test",` +
		`"experiment_id":"30001","variation_id":"50002","variables":{"color":"red","limit":3},"reasons":[],` +
		`"context":{}}`
	assert.Equal(t, want, string(r.AppendFlatJSON(nil, 0)))
}

func TestDecisionRecordVariants(t *testing.T) {
	r := DecisionRecord{
		Source: Source{File: `a"b.ndjson`, Line: 7}, SegmentsError: "timeout",
		Decisions: []FlagDecision{{FlagKey: "f", VariationKey: "", HasVariation: true, RuleKey: "", HasRule: true, CMABUUID: "c1"}},
	}
	assert.Equal(t, `{"id":"","activity_id":"","user_id":"","timestamp":0,"revision":"","datafile":"","source":{"file":"a\"b.ndjson","line":7},`+
		`"segments":null,"segments_error":"timeout","decisions":[{"flag_key":"f","enabled":false,"variation_key":"","rule_key":"","rule_type":null,`+
		`"experiment_id":null,"variation_id":null,"variables":{},"cmab_uuid":"c1","reasons":[]}]}`, string(r.AppendJSON(nil)))
	r = DecisionRecord{HasSegments: true}
	assert.Contains(t, string(r.AppendJSON(nil)), `"segments":[],"decisions":[]}`)
}

// A fragment is the decision's own bytes, so using it changes nothing.
func TestFragmentsChangeNothing(t *testing.T) {
	plain, ready := sampleRecord(), sampleRecord()
	for i := range ready.Decisions {
		f := &ready.Decisions[i]
		bare := *f
		bare.Reasons = nil
		f.Fragment = AppendFlagDecision(nil, &bare)
	}
	assert.Equal(t, string(plain.AppendJSON(nil)), string(ready.AppendJSON(nil)))
	for i := range ready.Decisions {
		assert.Equal(t, string(plain.AppendFlatJSON(nil, i)), string(ready.AppendFlatJSON(nil, i)))
		assert.Equal(t, string(plain.AppendCSV(nil, i)), string(ready.AppendCSV(nil, i)))
	}
}

func TestDecisionRecordCSV(t *testing.T) {
	r := sampleRecord()
	r.UserID = "a, \"b\"\r\nc"
	r.Decisions[2].VariationKey, r.Decisions[2].HasVariation = "", true
	text := []byte(DecisionCSVHeader)
	for i := range r.Decisions {
		text = append(text, '\r', '\n')
		text = r.AppendCSV(text, i)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 4)
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	require.Len(t, column, 21)
	cell := func(row int, name string) string { return rows[row][column[name]] }
	assert.Equal(t, "a, \"b\"\nc", cell(1, "user_id"), "the reader folds CRLF")
	assert.Equal(t, "activities/3/1042", cell(1, "source"))
	assert.Equal(t, `["vip"]`, cell(1, "segments"))
	assert.JSONEq(t, `{"color":"red","limit":3}`, cell(1, "variables"))
	assert.Equal(t, "treatment", cell(1, "variation_key"))
	assert.Equal(t, "true", cell(1, "enabled"))
	assert.Equal(t, "[]", cell(1, "reasons"))
	assert.Equal(t, "{}", cell(1, "context"))
	assert.JSONEq(t, `[{"code":"not_in_audience","rule_key":"r1","detail":"audience \"a\""},{"code":"no_rule"}]`, cell(2, "reasons"))
	assert.Equal(t, "flag_not_found", cell(3, "error"))
	assert.Equal(t, "{}", cell(3, "variables"))

	raw := strings.Split(string(r.AppendCSV(nil, 2)), ",")
	assert.Contains(t, raw, `""`, "an empty string is quoted")
	assert.Contains(t, raw, ``, "a null is not")
	r.HasSegments, r.Context = false, nil
	assert.True(t, strings.HasSuffix(string(r.AppendCSV(nil, 2)), ",[],"))
}

func FuzzCSVCell(f *testing.F) {
	f.Add("a", "b\"c")
	f.Add("", " x ")
	f.Add("\n", "a,b")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, '\r') {
			t.Skip("encoding/csv folds line ends")
		}
		line := appendCell(append(appendCell([]byte("prefix,"), a), ','), b)
		rows, err := csv.NewReader(strings.NewReader(string(line))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || len(rows[0]) != 3 || rows[0][1] != a || rows[0][2] != b {
			t.Fatalf("%q: %q", line, rows)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "12345678", "a\"b\\c", "\x00\x1f\x7f", "é€😀", "\xff\xc0x", "<>&\u2028", "1234567\n", "\xed\xa0\x80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString(nil, s)
		if !utf8.Valid(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
		var back string
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := strings.ToValidUTF8(s, "\ufffd")
		if utf8.ValidString(s) && back != s || !utf8.ValidString(s) && strings.ReplaceAll(back, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
			t.Fatalf("%q became %q", s, back)
		}
		// And our own reader agrees.
		var d Decoder
		var a Activity
		if err := d.Decode(append(append([]byte(`{"user_id":`), text...), '}'), &a); err != nil || a.UserID != back {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	r := sampleRecord()
	dst := make([]byte, 0, 4096)
	allocs := testing.AllocsPerRun(100, func() {
		dst = r.AppendJSON(dst[:0])
		dst = r.AppendFlatJSON(dst[:0], 1)
		dst = r.AppendCSV(dst[:0], 1)
	})
	assert.Zero(t, allocs)
}
