package schemas

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// schema compiles one of the embedded schemas.
func schema(t testing.TB, message string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	names, err := fs.Glob(FS, "*.schema.json")
	require.NoError(t, err)
	require.Len(t, names, 6)
	for _, name := range names {
		text, err := FS.ReadFile(name)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err, name)
		id := document.(map[string]any)["$id"].(string)
		require.Equal(t, name, strings.Replace(strings.TrimPrefix(id, "urn:sortition:"), ":", ".", 1)+".schema.json")
		require.NoError(t, compiler.AddResource(id, document), name)
	}
	s, err := compiler.Compile("urn:sortition:" + message + ":v1")
	require.NoError(t, err, message)
	return s
}

func validate(t testing.TB, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err, "%s", text)
	return s.Validate(document)
}

// What the decoder accepts the schema accepts, and what the decoder refuses
// for its types or its missing fields the schema refuses.
func TestActivitySchemaAgreesWithTheDecoder(t *testing.T) {
	s := schema(t, "activity")
	for _, record := range acceptedRecords {
		assert.NoError(t, validate(t, s, []byte(record)), record)
		decode(t, record)
	}
	judged := 0
	for _, test := range rejectTests {
		switch test.code {
		case RejectWrongType, RejectMissingUserID, RejectMissingField, RejectOutOfRange:
		default:
			continue
		}
		if strings.Contains(test.record, "1e12") {
			continue // to a schema 1e12 is an integer like any other
		}
		judged++
		assert.Error(t, validate(t, s, []byte(test.record)), test.record)
	}
	assert.Greater(t, judged, 40)
}

func TestEncodedDecisionsValidate(t *testing.T) {
	nested, flat := schema(t, "decision"), schema(t, "decision-flat")
	for name, change := range map[string]func(*DecisionRecord){
		"as designed":   func(*DecisionRecord) {},
		"file":          func(r *DecisionRecord) { r.Source = Source{File: "-", Line: 1} },
		"no segments":   func(r *DecisionRecord) { r.HasSegments, r.SegmentsError = false, "timeout" },
		"stale":         func(r *DecisionRecord) { r.SegmentsError = "stale" },
		"empty":         func(r *DecisionRecord) { r.Segments = nil },
		"no context":    func(r *DecisionRecord) { r.Context = nil },
		"null context":  func(r *DecisionRecord) { r.Context = []byte(`null`) },
		"no decisions":  func(r *DecisionRecord) { r.Decisions = nil },
		"bandit":        func(r *DecisionRecord) { r.Decisions[0].CMABUUID = "c" },
		"holdout":       func(r *DecisionRecord) { r.Decisions[0].RuleType = "holdout" },
		"hostile texts": func(r *DecisionRecord) { r.UserID, r.Decisions[0].FlagKey = "\"\x00\xff\n", "</script>\u2028\\" },
	} {
		r := sampleRecord()
		change(r)
		assert.NoError(t, validate(t, nested, r.AppendJSON(nil)), name)
		for i := range r.Decisions {
			assert.NoError(t, validate(t, flat, r.AppendFlatJSON(nil, i)), name)
		}
	}
}

func TestDecisionSchemasRefuse(t *testing.T) {
	nested, flat := schema(t, "decision"), schema(t, "decision-flat")
	for name, change := range map[string]func(*DecisionRecord){
		"id":             func(r *DecisionRecord) { r.ID, r.Decisions[0].ID = "x", "x" },
		"source":         func(r *DecisionRecord) { r.Source = Source{} },
		"rule type":      func(r *DecisionRecord) { r.Decisions[0].RuleType = "ab" },
		"variables":      func(r *DecisionRecord) { r.Decisions[0].Variables = "[]" },
		"error":          func(r *DecisionRecord) { r.Decisions[0].Error = "Not A Code" },
		"reason":         func(r *DecisionRecord) { r.Decisions[0].Reasons = []Reason{{}} },
		"segments error": func(r *DecisionRecord) { r.SegmentsError = "timeout" },
		"no old ones":    func(r *DecisionRecord) { r.HasSegments, r.SegmentsError = false, "stale" },
	} {
		r := sampleRecord()
		change(r)
		assert.Error(t, validate(t, nested, r.AppendJSON(nil)), name)
		assert.Error(t, validate(t, flat, r.AppendFlatJSON(nil, 0)), name)
	}
	text := sampleRecord().AppendJSON(nil)
	assert.Error(t, validate(t, flat, text))
	for _, field := range []string{"id", "activity_id", "user_id", "timestamp", "revision", "datafile", "source", "segments", "decisions"} {
		assert.Error(t, validate(t, nested, edit(t, text, func(m map[string]any) { delete(m, field) })), field)
	}
	assert.Error(t, validate(t, nested, edit(t, text, func(m map[string]any) { m["extra"] = 1 })))
	assert.Error(t, validate(t, nested, edit(t, text, func(m map[string]any) { m["decisions"].([]any)[0].(map[string]any)["extra"] = 1 })))
	text = sampleRecord().AppendFlatJSON(nil, 0)
	assert.Error(t, validate(t, flat, edit(t, text, func(m map[string]any) { m["extra"] = 1 })))
}

func edit(t testing.TB, text []byte, change func(map[string]any)) []byte {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal(text, &document))
	change(document)
	text, err := json.Marshal(document)
	require.NoError(t, err)
	return text
}

const eventBatch = `{"account_id":"1","project_id":"2","revision":"7","client_name":"sortition","client_version":"0.1.0","anonymize_ip":true,
 "enrich_decisions":true,"visitors":[
 {"visitor_id":"u","attributes":[{"entity_id":"5","key":"plan","type":"custom","value":"gold"},{"entity_id":"6","key":"age","type":"custom","value":31},
   {"entity_id":"$opt_bot_filtering","key":"$opt_bot_filtering","type":"custom","value":false}],
  "snapshots":[{"decisions":[{"campaign_id":"4","experiment_id":"3","variation_id":"8",
    "metadata":{"flag_key":"f","rule_key":"r","rule_type":"feature-test","variation_key":"v","enabled":true,"cmab_uuid":"c"}}],
   "events":[{"entity_id":"4","uuid":"00000000-0000-4000-8000-000000000001","key":"campaign_activated","timestamp":1790000000000}]}]},
 {"visitor_id":"","attributes":[],"snapshots":[{"decisions":[{"campaign_id":"","experiment_id":"","variation_id":null,
    "metadata":{"flag_key":"f","rule_key":"","rule_type":"rollout","variation_key":"","enabled":false}}],
   "events":[{"entity_id":"","uuid":"00000000-0000-4000-8000-000000000002","key":"campaign_activated","timestamp":1790000000000}]}]},
 {"visitor_id":"u","attributes":[],"snapshots":[{
   "events":[{"entity_id":"9","uuid":"00000000-0000-4000-8000-000000000003","key":"purchase","timestamp":1790000000000,
     "revenue":4200,"value":12.5,"tags":{"revenue":4200,"value":"12.50","x":[null]}}]}]}]}`

func TestEventBatchSchema(t *testing.T) {
	s := schema(t, "event-batch")
	require.NoError(t, validate(t, s, []byte(eventBatch)))
	for from, to := range map[string]string{
		`"enrich_decisions":true`:         `"enrich_decisions":false`,
		`"visitors":[`:                    `"region":"EU","visitors":[`,
		`"value":31`:                      `"value":null`,
		`"variation_id":"8"`:              `"variation_id":"eight"`,
		`"rule_type":"rollout"`:           `"rule_type":""`,
		`"cmab_uuid":"c"`:                 `"cmab_uuid":""`,
		`"revenue":4200,"value"`:          `"revenue":42.5,"value"`,
		`-4000-8000-000000000001`:         `-1000-8000-000000000001`,
		`"timestamp":1790000000000}]}]},`: `"timestamp":1790000000000,"tags":{}}]}]},`,
	} {
		broken := strings.Replace(eventBatch, from, to, 1)
		require.NotEqual(t, eventBatch, broken, from)
		assert.Error(t, validate(t, s, []byte(broken)), to)
	}
	assert.Error(t, validate(t, s, edit(t, []byte(eventBatch), func(m map[string]any) { m["visitors"] = []any{} })))
}

func TestODPEventBatchSchema(t *testing.T) {
	const event = `{"type":"fullstack","action":"viewed","identifiers":{"fs_user_id":"u"},` +
		`"data":{"idempotence_id":"i","data_source_type":"sdk","data_source":"sortition","data_source_version":"1","price":1.5,"n":null}}`
	s := schema(t, "odp-event-batch")
	assert.NoError(t, validate(t, s, []byte("["+event+"]")))
	assert.NoError(t, validate(t, s, []byte("["+event+strings.Repeat(","+event, 9)+"]")))
	for _, text := range []string{
		"[]", event, "[" + event + strings.Repeat(","+event, 10) + "]",
		"[" + strings.Replace(event, `"viewed"`, `""`, 1) + "]",
		"[" + strings.Replace(event, `"u"`, `1`, 1) + "]",
		"[" + strings.Replace(event, `null`, `[]`, 1) + "]",
		"[" + strings.Replace(event, `"idempotence_id":"i",`, ``, 1) + "]",
	} {
		assert.Error(t, validate(t, s, []byte(text)), text)
	}
}

func TestDeadLetterSchema(t *testing.T) {
	s := schema(t, "dead-letter")
	headers := map[string]string{"traceparent": "00-1"}
	for key, value := range sampleDeadLetter().Headers() {
		headers[key] = string(value)
	}
	text, err := json.Marshal(headers)
	require.NoError(t, err)
	assert.NoError(t, validate(t, s, text))
	for _, code := range RejectCodes() {
		assert.NoError(t, validate(t, s, edit(t, text, func(m map[string]any) { m[HeaderDLReason] = string(code) })))
	}
	for key := range sampleDeadLetter().Headers() {
		assert.Error(t, validate(t, s, edit(t, text, func(m map[string]any) { m[key] = "" })), key)
		if key != HeaderDLDetail {
			assert.Error(t, validate(t, s, edit(t, text, func(m map[string]any) { delete(m, key) })), key)
		}
	}
}
