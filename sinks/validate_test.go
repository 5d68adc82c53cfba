package sinks_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// Bodies of the validator's tests are of a minute before this time.
var validateNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

var validateCatalog = &sinks.Catalog{AccountID: "770011", ProjectID: "880022", Revision: "7", Events: map[string]string{"purchase": "901"}}

func validateUUID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func validateImpression(user string, n int, at time.Time) string {
	return fmt.Sprintf(`{"visitor_id":%q,"attributes":[{"entity_id":"501","key":"plan","type":"custom","value":"gold"}],"snapshots":[{
"decisions":[{"campaign_id":"40001","experiment_id":"30001","variation_id":"50002","metadata":{"flag_key":"checkout","rule_key":"checkout_test","rule_type":"feature-test","variation_key":"treatment","enabled":true}}],
"events":[{"entity_id":"40001","uuid":%q,"key":"campaign_activated","timestamp":%d}]}]}`, user, validateUUID(n), at.UnixMilli())
}

func validateConversion(user string, n int, at time.Time) string {
	return fmt.Sprintf(`{"visitor_id":%q,"attributes":[],"snapshots":[{"events":[{"entity_id":"901","uuid":%q,"key":"purchase","timestamp":%d,
"revenue":4200,"value":12.5,"tags":{"revenue":4200,"value":"12.50","category":"shoes"}}]}]}`, user, validateUUID(n), at.UnixMilli())
}

func validateBody(visitors ...string) string {
	return `{"account_id":"770011","project_id":"880022","revision":"7","client_name":"test","client_version":"1","anonymize_ip":true,"enrich_decisions":true,
"visitors":[` + strings.Join(visitors, ",") + `]}`
}

// A good body: an impression, a conversion after it, and somebody else's impression
// for which nothing matched.
func validateGood() string {
	return validateBody(validateImpression("u1", 1, validateNow.Add(-time.Minute)), validateConversion("u1", 2, validateNow),
		strings.NewReplacer(`"campaign_id":"40001"`, `"campaign_id":""`, `"entity_id":"40001"`, `"entity_id":""`, `"experiment_id":"30001"`, `"experiment_id":""`,
			`"variation_id":"50002"`, `"variation_id":null`, `"feature-test"`, `"rollout"`).Replace(validateImpression("", 3, validateNow)))
}

func TestValidateGood(t *testing.T) {
	assert.Empty(t, sinks.Validate([]byte(validateGood()), validateCatalog, validateNow))
	assert.Empty(t, sinks.Validate([]byte(validateGood()), nil, validateNow))
	// Fields of other SDKs are tolerated. Source: events.md section 2.
	more := strings.NewReplacer(`"account_id"`, `"region":"US","account_id"`, `"visitor_id"`, `"session_id":null,"visitor_id"`,
		`"campaign_id"`, `"is_campaign_holdback":false,"campaign_id"`, `"uuid"`, `"type":"x","quantity":1,"uuid"`).Replace(validateGood())
	assert.Empty(t, sinks.Validate([]byte(more), validateCatalog, validateNow))
}

// Each case changes one text of the good body (its first occurrence, or its last
// for a field of the conversion alone), and expects exactly these problems.
func TestValidateRules(t *testing.T) {
	const (
		first      = "visitors[0]"
		snapshot   = first + ".snapshots[0]"
		decision   = snapshot + ".decisions[0]"
		event      = snapshot + ".events[0]"
		conversion = "visitors[1].snapshots[0].events[0]"
	)
	future := fmt.Sprint(validateNow.Add(-time.Minute).UnixMilli())
	for _, tt := range []struct {
		old, new string
		want     string // code and path of each
	}{
		// The root.
		{`"account_id":"770011",`, ``, "missing_field account_id"},
		{`"770011"`, `770011`, "wrong_type account_id"},
		{`"770011"`, `""`, "empty_id account_id"},
		{`"770011"`, `"1"`, "wrong_account account_id"},
		{`"project_id":"880022",`, ``, "missing_field project_id"},
		{`"880022"`, `""`, "empty_id project_id"},
		{`"880022"`, `"1"`, "wrong_project project_id"},
		{`"revision":"7",`, ``, "missing_field revision"},
		{`"revision":"7"`, `"revision":7`, "wrong_type revision"},
		{`"client_name":"test",`, ``, "missing_field client_name"},
		{`"client_version":"1",`, ``, "missing_field client_version"},
		{`"anonymize_ip":true,`, ``, "missing_field anonymize_ip"},
		{`"anonymize_ip":true`, `"anonymize_ip":"true"`, "wrong_type anonymize_ip"},
		{`"enrich_decisions":true,`, ``, "missing_field enrich_decisions"},
		{`"enrich_decisions":true`, `"enrich_decisions":false`, "wrong_value enrich_decisions"},
		// Visitors.
		{`"visitor_id":"u1",`, ``, "missing_field " + first + ".visitor_id"},
		{`"visitor_id":"u1"`, `"visitor_id":1`, "wrong_type " + first + ".visitor_id"},
		{`"attributes":[],`, ``, "missing_field visitors[1].attributes"},
		{`"attributes":[]`, `"attributes":null`, "wrong_type visitors[1].attributes"},
		{`"attributes":[]`, `"attributes":[7]`, "wrong_type visitors[1].attributes[0]"},
		{`"entity_id":"501",`, ``, "missing_field " + first + ".attributes[0].entity_id"},
		{`"key":"plan",`, ``, "missing_field " + first + ".attributes[0].key"},
		{`"type":"custom",`, ``, "missing_field " + first + ".attributes[0].type"},
		{`"type":"custom"`, `"type":"other"`, "wrong_value " + first + ".attributes[0].type"},
		{`,"value":"gold"`, ``, "missing_field " + first + ".attributes[0].value"},
		{`"value":"gold"`, `"value":null`, "wrong_type " + first + ".attributes[0].value"},
		{`"value":"gold"`, `"value":["a"]`, "wrong_type " + first + ".attributes[0].value"},
		{`"value":"gold"`, `"value":1e999`, "wrong_value " + first + ".attributes[0].value"},
		{`"value":"gold"`, `"value":1.5`, ""},
		{`"value":"gold"`, `"value":false`, ""},
		// Decisions.
		{`"decisions":[`, `"decisions":7,"x":[`, "wrong_type " + snapshot + ".decisions"},
		{`"decisions":[`, `"decisions":[],"x":[`, "wrong_count " + snapshot + ".decisions"},
		{`"decisions":[`, `"decisions":[{},`, "wrong_count " + snapshot + ".decisions"},
		{`"decisions":[`, `"decisions":["a"],"x":[`, "wrong_type " + decision},
		{`"decisions":[`, `"x":[`, "decision_missing " + snapshot},
		{`"campaign_id":"40001",`, ``, "missing_field " + decision + ".campaign_id"},
		{`"campaign_id":"40001"`, `"campaign_id":40001`, "wrong_type " + decision + ".campaign_id"},
		{`"campaign_id":"40001"`, `"campaign_id":null`, "null_id " + decision + ".campaign_id, entity_mismatch " + event + ".entity_id"},
		{`"campaign_id":""`, `"campaign_id":null`, "null_id visitors[2].snapshots[0].decisions[0].campaign_id"},
		{`"entity_id":""`, `"entity_id":null`, "null_id visitors[2].snapshots[0].events[0].entity_id"},
		{`"entity_id":"901"`, `"entity_id":null`, "wrong_type " + conversion + ".entity_id"},
		{`"campaign_id":"40001"`, `"campaign_id":"40002"`, "entity_mismatch " + event + ".entity_id"},
		{`"experiment_id":"30001",`, ``, "missing_field " + decision + ".experiment_id"},
		{`"variation_id":"50002",`, ``, "missing_field " + decision + ".variation_id"},
		{`"variation_id":"50002"`, `"variation_id":50002`, "wrong_type " + decision + ".variation_id"},
		{`"variation_id":"50002"`, `"variation_id":""`, "wrong_value " + decision + ".variation_id"},
		{`"variation_id":"50002"`, `"variation_id":"var_x"`, "wrong_value " + decision + ".variation_id"},
		{`"variation_id":"50002"`, `"variation_id":"٣"`, "wrong_value " + decision + ".variation_id"},
		{`"metadata":{`, `"x":{`, "missing_field " + decision + ".metadata"},
		{`"metadata":{`, `"metadata":[],"x":{`, "wrong_type " + decision + ".metadata"},
		{`"flag_key":"checkout",`, ``, "missing_field " + decision + ".metadata.flag_key"},
		{`"rule_key":"checkout_test",`, ``, "missing_field " + decision + ".metadata.rule_key"},
		{`"rule_type":"feature-test",`, ``, "missing_field " + decision + ".metadata.rule_type"},
		{`"feature-test"`, `"bandit"`, "wrong_value " + decision + ".metadata.rule_type"},
		{`"feature-test"`, `"holdout"`, ""},
		{`"feature-test"`, `"experiment"`, ""},
		{`"variation_key":"treatment",`, ``, "missing_field " + decision + ".metadata.variation_key"},
		{`,"enabled":true`, ``, "missing_field " + decision + ".metadata.enabled"},
		{`"enabled":true`, `"enabled":true,"cmab_uuid":""`, "empty_id " + decision + ".metadata.cmab_uuid"},
		{`"enabled":true`, `"enabled":true,"cmab_uuid":null`, "wrong_type " + decision + ".metadata.cmab_uuid"},
		{`"enabled":true`, `"enabled":true,"cmab_uuid":"x"`, ""},
		// Events.
		{`"snapshots":[`, `"snapshots":[],"x":[`, "wrong_count " + first + ".snapshots"},
		{`"snapshots":[`, `"snapshots":[{},`, "wrong_count " + first + ".snapshots"},
		{`"snapshots":[`, `"snapshots":[7],"x":[`, "wrong_type " + snapshot},
		{`"snapshots":[`, `"x":[`, "missing_field " + first + ".snapshots"},
		{`"events":[`, `"events":[],"x":[`, "wrong_count " + snapshot + ".events"},
		{`"events":[`, `"events":[null],"x":[`, "wrong_type " + event},
		{`"events":[`, `"x":[`, "missing_field " + snapshot + ".events"},
		{`"entity_id":"40001",`, ``, "missing_field " + event + ".entity_id"},
		{`"key":"campaign_activated",`, ``, "missing_field " + event + ".key"},
		{`"key":"campaign_activated"`, `"key":""`, "empty_id " + event + ".key"},
		{`"key":"campaign_activated"`, `"key":"purchase"`, "decision_unexpected " + snapshot + ".decisions, event_id_mismatch " + event + ".entity_id"},
		{`"uuid":"` + validateUUID(1) + `",`, ``, "missing_field " + event + ".uuid"},
		{validateUUID(1), "00000000-0000-1000-8000-000000000001", "wrong_value " + event + ".uuid"},
		{validateUUID(1), "00000000-0000-4000-7000-000000000001", "wrong_value " + event + ".uuid"},
		{validateUUID(1), "00000000-0000-4000-8000-00000000000A", "wrong_value " + event + ".uuid"},
		{validateUUID(1), "00000000-0000-4000-8000-00000000000", "wrong_value " + event + ".uuid"},
		{validateUUID(1), "00000000+0000-4000-8000-000000000001", "wrong_value " + event + ".uuid"},
		{`"timestamp":` + future, `"x":0`, "missing_field " + event + ".timestamp"},
		{`"timestamp":` + future, `"timestamp":"` + future + `"`, "wrong_type " + event + ".timestamp"},
		{`"timestamp":` + future, `"timestamp":` + future + `.0`, "wrong_type " + event + ".timestamp"},
		{`"timestamp":` + future, `"timestamp":1e12`, "wrong_type " + event + ".timestamp"},
		{`"timestamp":` + future, `"timestamp":99999999999999999999`, "wrong_value " + event + ".timestamp"},
		// Conversions.
		{`"entity_id":"901"`, `"entity_id":""`, "empty_id " + conversion + ".entity_id"},
		{`"entity_id":"901"`, `"entity_id":"902"`, "event_id_mismatch " + conversion + ".entity_id"},
		{`"key":"purchase"`, `"key":"unheard_of"`, "unknown_event " + conversion + ".key"},
		{`"revenue":4200,"value"`, `"revenue":42.5,"value"`, "wrong_type " + conversion + ".revenue"},
		{`"revenue":4200,"value"`, `"revenue":"4200","value"`, "wrong_type " + conversion + ".revenue"},
		{`"value":12.5,`, `"value":"12.5",`, "wrong_type " + conversion + ".value"},
		{`"value":12.5,`, `"value":1e400,`, "wrong_value " + conversion + ".value"},
		{`"tags":{`, `"tags":[],"x":{`, "wrong_type " + conversion + ".tags"},
		{`"tags":{`, `"tags":null,"x":{`, "wrong_type " + conversion + ".tags"},
	} {
		good := validateGood()
		require.Contains(t, good, tt.old)
		body := strings.Replace(good, tt.old, tt.new, 1)
		require.True(t, json.Valid([]byte(body)), "the case %s", tt.new)
		assert.Equal(t, tt.want, namesOf(sinks.Validate([]byte(body), validateCatalog, validateNow)), "%s → %s", tt.old, tt.new)
	}
}

func namesOf(problems []sinks.Problem) string {
	var names []string
	for _, p := range problems {
		names = append(names, strings.TrimSpace(string(p.Code)+" "+p.Path))
	}
	return strings.Join(names, ", ")
}

func TestValidateWholeBody(t *testing.T) {
	for body, want := range map[string]string{
		``:                           "not_json",
		`{`:                          "not_json",
		`{"a":NaN}`:                  "not_json",
		validateGood() + ` {}`:       "not_json",
		validateGood() + "\n":        "",
		"\ufeff" + validateGood():    "not_json",
		`[]`:                         "wrong_type",
		`null`:                       "wrong_type",
		"{\"account_id\":\"\xff\"}":  "not_utf8",
		strings.Repeat("[", 100_000): "not_json",
		validateBody():               "wrong_count visitors",
		validateBody(`7`):            "wrong_type visitors[0]",
	} {
		assert.Equal(t, want, namesOf(sinks.Validate([]byte(body), validateCatalog, validateNow)), "%.60q", body)
	}
}

func TestValidateSize(t *testing.T) {
	good := validateGood()
	pad := func(n int) []byte { return append([]byte(good), strings.Repeat(" ", n-len(good))...) }
	assert.Empty(t, sinks.Validate(pad(sinks.MaxEventBody), validateCatalog, validateNow))
	assert.Equal(t, "too_large", namesOf(sinks.Validate(pad(sinks.MaxEventBody+1), validateCatalog, validateNow)))
}

func TestValidateTime(t *testing.T) {
	at := func(d time.Duration) string { return validateBody(validateConversion("u", 1, validateNow.Add(d))) }
	path := " visitors[0].snapshots[0].events[0].timestamp"
	assert.Empty(t, sinks.Validate([]byte(at(sinks.DefaultFutureTolerance)), nil, validateNow))
	assert.Equal(t, "timestamp_in_future"+path, namesOf(sinks.Validate([]byte(at(sinks.DefaultFutureTolerance+time.Millisecond)), nil, validateNow)))

	none := sinks.NewValidator(sinks.ValidatorConfig{FutureTolerance: -1})
	report := none.Check([]byte(at(time.Millisecond)), validateNow)
	assert.Equal(t, "timestamp_in_future"+path, namesOf(report.Problems))
	assert.True(t, report.Failed())

	seconds := strings.Replace(at(0), fmt.Sprint(validateNow.UnixMilli()), fmt.Sprint(validateNow.Unix()), 1)
	problems := sinks.Validate([]byte(seconds), nil, validateNow)
	assert.Equal(t, "timestamp_not_millis"+path, namesOf(problems))
	assert.Equal(t, sinks.SeverityWarning, problems[0].Severity)
}

// Conversions count only after the visitor's first decision; the order in which
// they are sent means nothing, their times do.
func TestValidateConversionBeforeDecision(t *testing.T) {
	minute := func(n int) time.Time { return validateNow.Add(time.Duration(n-60) * time.Minute) }
	impression := func(n, at int) string { return validateImpression("u", n, minute(at)) }
	conversion := func(n, at int) string { return validateConversion("u", n, minute(at)) }
	early := func(i int) string {
		return fmt.Sprintf("conversion_before_decision visitors[%d].snapshots[0].events[0].timestamp", i)
	}
	for name, tt := range map[string]struct {
		bodies []string
		want   []string
	}{
		"after":                       {[]string{validateBody(impression(1, 10), conversion(2, 11))}, []string{""}},
		"at the same time":            {[]string{validateBody(impression(1, 10), conversion(2, 10))}, []string{""}},
		"sent before, happened after": {[]string{validateBody(conversion(2, 11), impression(1, 10))}, []string{""}},
		"before":                      {[]string{validateBody(impression(1, 10), conversion(2, 9))}, []string{early(1)}},
		"before, sent before":         {[]string{validateBody(conversion(2, 9), impression(1, 10))}, []string{early(0)}},
		"before, in the next body":    {[]string{validateBody(impression(1, 10)), validateBody(conversion(2, 9))}, []string{"", early(0)}},
		"before, in the body before":  {[]string{validateBody(conversion(2, 9)), validateBody(impression(1, 10))}, []string{"", early(0)}},
		"after the first of two":      {[]string{validateBody(impression(1, 20)), validateBody(impression(3, 10)), validateBody(conversion(2, 15))}, []string{"", "", ""}},
		"after, in the body before":   {[]string{validateBody(conversion(2, 11)), validateBody(impression(1, 10))}, []string{"", ""}},
		"no decision at all":          {[]string{validateBody(conversion(2, 9))}, []string{""}},
		"somebody else's decision":    {[]string{validateBody(validateImpression("other", 1, minute(10)), conversion(2, 9))}, []string{""}},
		"told once":                   {[]string{validateBody(impression(1, 10), conversion(2, 9)), validateBody(impression(1, 10), conversion(2, 9))}, []string{early(1), ""}},
	} {
		v := sinks.NewValidator(sinks.ValidatorConfig{})
		var got []string
		for _, body := range tt.bodies {
			report := v.Check([]byte(body), validateNow)
			got = append(got, namesOf(report.Problems))
			assert.False(t, report.Failed(), "a warning: it may well have been so")
		}
		assert.Equal(t, tt.want, got, name)
	}
}

func TestValidateUUIDs(t *testing.T) {
	v := sinks.NewValidator(sinks.ValidatorConfig{})
	check := func(body string) (string, int) {
		r := v.Check([]byte(body), validateNow)
		return namesOf(r.Problems), r.Repeats
	}
	same := func(body string, repeats int) {
		t.Helper()
		names, n := check(body)
		assert.Empty(t, names)
		assert.Equal(t, repeats, n)
	}
	one := validateConversion("u", 1, validateNow)
	same(validateBody(one), 0)
	same(validateBody(one), 1)
	same(validateBody(one, one), 2)
	// Neither spaces nor the order of fields nor another revision make another event.
	same(strings.Replace(validateBody(one), `"revision":"7"`, `"revision":"8"`, 1), 1)
	same(validateBody(strings.Replace(one, `"attributes":[],`, ``, 1)[:len(one)-len(`"attributes":[],`)-1]+` , "attributes" : [ ] }`), 1)

	for _, other := range []string{
		validateConversion("somebody", 1, validateNow),
		validateConversion("u", 1, validateNow.Add(-time.Second)),
		strings.Replace(one, `"category":"shoes"`, `"category":"hats"`, 1),
		strings.Replace(one, `"revenue":4200,"value"`, `"revenue":4201,"value"`, 1),
	} {
		names, n := check(validateBody(other))
		assert.Equal(t, "uuid_conflict visitors[0].snapshots[0].events[0].uuid", names)
		assert.Zero(t, n)
	}
	names, _ := check(strings.Replace(validateBody(one), "880022", "880023", 1))
	assert.Equal(t, "uuid_conflict visitors[0].snapshots[0].events[0].uuid", names, "another project's")

	fresh := v.Fresh()
	assert.Empty(t, fresh.Check([]byte(validateBody(validateConversion("somebody", 1, validateNow))), validateNow).Problems)
}

// What is forgotten hides problems, and never makes any.
func TestValidateForgets(t *testing.T) {
	v := sinks.NewValidator(sinks.ValidatorConfig{MaxUUIDs: 2, MaxVisitors: 2})
	add := func(visitor string) string {
		return namesOf(v.Check([]byte(validateBody(visitor)), validateNow).Problems)
	}
	assert.Empty(t, add(validateImpression("a", 1, validateNow)))
	assert.Empty(t, add(validateImpression("b", 2, validateNow)))
	assert.NotEmpty(t, add(validateImpression("x", 2, validateNow)), "2 is remembered")
	assert.Empty(t, add(validateImpression("c", 3, validateNow)))
	assert.Empty(t, add(validateImpression("d", 1, validateNow)), "1 was forgotten")
	assert.Empty(t, add(validateConversion("a", 5, validateNow.Add(-time.Hour))), "and so was a")
	assert.NotEmpty(t, add(validateConversion("d", 6, validateNow.Add(-time.Hour))))
}

func TestValidateCounts(t *testing.T) {
	v := sinks.NewValidator(sinks.ValidatorConfig{MaxProblems: 3})
	r := v.Check([]byte(validateGood()), validateNow)
	assert.Equal(t, sinks.Report{Visitors: 3, Impressions: 2, Conversions: 1}, r)
	r = v.Check([]byte(validateBody(strings.Repeat(`7,`, 1000)+`7`)), validateNow)
	require.Len(t, r.Problems, 4)
	assert.Equal(t, sinks.CodeMoreProblems, r.Problems[3].Code)
}

// Neither ids of users nor values of attributes and tags may be in what is told.
func TestValidateTellsNothing(t *testing.T) {
	secret := strings.NewReplacer(`"u1"`, `"SECRET"`, `"gold"`, `["SECRET"]`, `"plan"`, `"SECRET"`, `"shoes"`, `"SECRET"`, `"category"`, `"SECRET"`,
		`"purchase"`, `"SECRET"`, `"tags":{`, `"SECRET":"SECRET","tags":{`, validateUUID(1), "SECRET", "880022", "SECRET", "custom", "SECRET", "50002", "SECRET").Replace(validateGood())
	problems := sinks.Validate([]byte(secret), validateCatalog, validateNow)
	require.Greater(t, len(problems), 4)
	text, err := json.Marshal(problems)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "SECRET")
}

func TestCatalogOf(t *testing.T) {
	c, err := sinks.CatalogOf([]byte(`{"accountId":"770011","projectId":"880022","revision":"7","events":[{"id":"901","key":"purchase","experimentIds":[]}]}`))
	require.NoError(t, err)
	assert.Equal(t, validateCatalog, c)
	_, err = sinks.CatalogOf([]byte(`{`))
	assert.Error(t, err)
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(validateGood()))
	f.Add([]byte(`{"visitors":[{"snapshots":[{"decisions":[{"metadata":{}}],"events":[{"tags":{"a":[1,{"b":null}]}}]}]}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := sinks.NewValidator(sinks.ValidatorConfig{MaxUUIDs: 3, MaxVisitors: 3, Against: func(string, string) *sinks.Catalog { return validateCatalog }})
		first := v.Check(body, validateNow)
		if !json.Valid(body) && len(first.Problems) == 0 {
			t.Fatal("no JSON, and no problem")
		}
		// The same body again can't be in conflict with itself, nor bring anything new.
		second := v.Fresh().Check(body, validateNow)
		if len(first.Problems) != len(second.Problems) {
			t.Fatalf("%d problems, then %d", len(first.Problems), len(second.Problems))
		}
		if third := v.Check(body, validateNow); third.Visitors != first.Visitors || third.Repeats > third.Visitors {
			t.Fatalf("%+v, then %+v", first, third)
		}
	})
}

// The validator runs on every body an emulator gets.
func BenchmarkValidate(b *testing.B) {
	var visitors []string
	for n := range 10 {
		visitors = append(visitors, validateImpression(fmt.Sprint(n), n, validateNow))
	}
	body := []byte(validateBody(visitors...))
	v := sinks.NewValidator(sinks.ValidatorConfig{})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if r := v.Check(body, validateNow); len(r.Problems) > 0 {
			b.Fatal(r.Problems)
		}
	}
}
