package decision

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Events as a whole: endpoints, batches, the worked example. Source: events.md
// sections 1, 2, 5 and 8.

// Source: EV-1, EV-P1 (an endpoint of one's own is the sender's to choose).
func TestRegions(t *testing.T) {
	const us, eu = "https://logx.optimizely.com/v1/events", "https://eu.logx.optimizely.com/v1/events"
	for region, want := range map[string]string{
		`"US"`: us, `"EU"`: eu, `"eu"`: eu, `"Eu"`: eu, `"AP"`: us, `""`: us, `null`: us, `"us"`: us, `"EU "`: us, `"EUR"`: us,
	} {
		require.Equal(t, want, compiled(t, file(object{"region": parsed(t, region)})).EventEndpoint(), region)
	}
	require.Equal(t, us, compiled(t, file(nil)).EventEndpoint())
}

// Source: events.md section 2; EV-P2, EV-P8.
func TestBatch(t *testing.T) {
	p := compiled(t, file(object{"accountId": "é\"1", "projectId": "\x01", "revision": "", "anonymizeIP": true}))
	got := string(AppendBatchTail(p.AppendBatchHead(nil, Client{Name: "sortition", Version: "1<2"})))
	require.Equal(t, `{"account_id":"é\"1","project_id":"\u0001","revision":"","client_name":"sortition","client_version":"1<2","anonymize_ip":true,"enrich_decisions":true,"visitors":[]}`, got)
	require.Contains(t, string(compiled(t, file(nil)).AppendBatchHead([]byte("x"), Client{})), `"anonymize_ip":false`)
	require.Contains(t, string(compiled(t, file(object{"anonymizeIP": nil})).AppendBatchHead(nil, Client{})), `"anonymize_ip":false`)
}

// uuids counts event ids as the worked example does.
type uuids int

func (n *uuids) next() string {
	*n++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", *n)
}

const workedTime = 1767225600123

// The body of section 8, by value.
func TestWorkedEvents(t *testing.T) {
	p, err := Compile(readTestdata(t, "events.json"))
	require.NoError(t, err)
	one := userOf(t, p, "user-1", `{"plan":"gold","age":31,"nope":"dropped","$opt_user_agent":"Mozilla/5.0"}`)
	two := userOf(t, p, "user-2", "")
	var ids uuids
	body := p.AppendBatchHead(nil, Client{"python-sdk", "5.5.0"})
	decide := func(u *User, flag string) {
		for _, im := range AppendImpressions(nil, []Decision{p.Decide(t.Context(), u, flag, 0, nil)}) {
			body = append(im.AppendVisitor(body, u, ids.next(), workedTime), ',')
		}
	}
	decide(one, "checkout")
	decide(two, "banner")
	c, ok := p.Conversion("purchase", []byte(`{"revenue":4200,"value":"12.50","category":"shoes","quantity":2}`))
	require.True(t, ok)
	body = append(c.AppendVisitor(body, one, ids.next(), workedTime), ',')
	decide(two, "empty")
	body = AppendBatchTail(body[:len(body)-1])
	require.Equal(t, canonicalBatch(t, readTestdata(t, "events-body.json")), canonicalBatch(t, body))
}

// canonicalBatch decodes a batch with its number literals; the order of a
// visitor's attributes means nothing.
func canonicalBatch(t *testing.T, body []byte) any {
	tree := parsed(t, string(body)).(object)
	for _, v := range tree["visitors"].(array) {
		byKey := object{}
		for _, a := range v.(object)["attributes"].(array) {
			byKey[a.(object)["key"].(string)] = a
		}
		v.(object)["attributes"] = byKey
	}
	return tree
}

// decisionPart is decisions[0] of the only impression of a flag.
func decisionPart(t *testing.T, p *Project, u *User, flag string, env *Env) string {
	t.Helper()
	events := AppendImpressions(nil, []Decision{p.Decide(t.Context(), u, flag, 0, env)})
	if len(events) == 0 {
		return ""
	}
	require.Len(t, events, 1)
	var visitor struct {
		Snapshots []struct {
			Decisions []struct {
				Campaign string `json:"campaign_id"`
			}
			Events []struct {
				Entity string `json:"entity_id"`
				Key    string
			}
		}
	}
	var raw struct {
		Snapshots []struct{ Decisions []json.RawMessage }
	}
	first := events[0].AppendVisitor(nil, u, testUUID, 1)
	require.Equal(t, string(first), string(events[0].AppendVisitor(nil, u, testUUID, 1)), "the kept text is the made one")
	require.NoError(t, json.Unmarshal(first, &visitor))
	require.NoError(t, json.Unmarshal(first, &raw))
	require.Equal(t, visitor.Snapshots[0].Decisions[0].Campaign, visitor.Snapshots[0].Events[0].Entity, "EV-18")
	require.Equal(t, "campaign_activated", visitor.Snapshots[0].Events[0].Key)
	return string(raw.Snapshots[0].Decisions[0])
}

// The other observed decisions of section 8, and section 5's rows.
func TestObservedImpressions(t *testing.T) {
	const held = `{"id":"61001","key":"ho_global","status":"Running","audienceIds":[],"variations":[{"id":"61002","key":"ho_off","featureEnabled":false}],"trafficAllocation":[{"entityId":"61002","endOfRange":10000}]%s}`
	const heldOut = `{"campaign_id":"61001","experiment_id":"61001","variation_id":"61002","metadata":{"flag_key":"%s","rule_key":"ho_global","rule_type":"holdout","variation_key":"ho_off","enabled":false}}`
	reco := &Env{Predictor: &fakePredictor{answers: map[string]Prediction{"30002": {"50012", "11111111-2222-4333-8444-555555555555"}}}}
	empty := `{"campaign_id":"","experiment_id":"","variation_id":null,"metadata":{"flag_key":"%s","rule_key":"","rule_type":"rollout","variation_key":"","enabled":false}}`
	for name, row := range map[string]struct {
		flag, section, value string
		forced               [2]string
		env                  *Env
		want                 string
		quiet                bool // nothing is sent without sendFlagDecisions
	}{
		"bandit":           {flag: "reco", env: reco, want: `{"campaign_id":"40002","experiment_id":"30002","variation_id":"50012","metadata":{"flag_key":"reco","rule_key":"reco_cmab","rule_type":"feature-test","variation_key":"reco_b","enabled":true,"cmab_uuid":"11111111-2222-4333-8444-555555555555"}}`},
		"opaque":           {flag: "opaque", want: `{"campaign_id":"layer_abc","experiment_id":"30003","variation_id":null,"metadata":{"flag_key":"opaque","rule_key":"opaque_test","rule_type":"feature-test","variation_key":"x","enabled":true}}`},
		"experiment":       {flag: "checkout", want: `{"campaign_id":"40001","experiment_id":"30001","variation_id":"50002","metadata":{"flag_key":"checkout","rule_key":"checkout_test","rule_type":"feature-test","variation_key":"treatment","enabled":true}}`},
		"delivery":         {flag: "banner", quiet: true, want: `{"campaign_id":"70001","experiment_id":"default-70001-88","variation_id":"50021","metadata":{"flag_key":"banner","rule_key":"default-70001-88","rule_type":"rollout","variation_key":"on","enabled":true}}`},
		"nothing":          {flag: "empty", quiet: true, want: fmt.Sprintf(empty, "empty")},
		"global holdout":   {flag: "checkout", section: "holdouts", value: fmt.Sprintf(held, ""), want: fmt.Sprintf(heldOut, "checkout")},
		"holdout, layer":   {flag: "checkout", section: "holdouts", value: fmt.Sprintf(held, `,"layerId":"99"`), want: fmt.Sprintf(heldOut, "checkout")},
		"local holdout":    {flag: "banner", section: "localHoldouts", value: fmt.Sprintf(held, `,"includedRules":["default-70001-88"]`), want: fmt.Sprintf(heldOut, "banner")},
		"forced, flag":     {flag: "checkout", forced: [2]string{"", "control"}, want: `{"campaign_id":"","experiment_id":"","variation_id":"50001","metadata":{"flag_key":"checkout","rule_key":"","rule_type":"feature-test","variation_key":"control","enabled":false}}`},
		"forced, bandit":   {flag: "reco", forced: [2]string{"reco_cmab", "reco_a"}, env: reco, want: `{"campaign_id":"40002","experiment_id":"30002","variation_id":"50011","metadata":{"flag_key":"reco","rule_key":"reco_cmab","rule_type":"feature-test","variation_key":"reco_a","enabled":true}}`},
		"forced, delivery": {flag: "banner", quiet: true, forced: [2]string{"default-70001-88", "on"}, want: `{"campaign_id":"70001","experiment_id":"default-70001-88","variation_id":"50021","metadata":{"flag_key":"banner","rule_key":"default-70001-88","rule_type":"rollout","variation_key":"on","enabled":true}}`},
		"bandit fails":     {flag: "reco", want: ""},
		"bandit unknown":   {flag: "reco", quiet: true, env: &Env{Predictor: &fakePredictor{}}, want: fmt.Sprintf(empty, "reco")},
		"unknown flag":     {flag: "nope", want: ""},
	} {
		for _, sends := range []bool{true, false} {
			root := parsed(t, string(readTestdata(t, "events.json"))).(object)
			root["sendFlagDecisions"] = sends
			if row.section != "" {
				root[row.section] = array{parsed(t, row.value)}
			}
			p := compiled(t, root)
			u := userOf(t, p, "user-1", "")
			if row.forced[1] != "" {
				u.SetForcedDecision(row.flag, row.forced[0], row.forced[1])
			}
			want := row.want
			if row.quiet && !sends { // EV-6, EV-7
				want = ""
			}
			require.Equal(t, want, decisionPart(t, p, u, row.flag, row.env), name)
			require.Empty(t, sent(p.Decide(t.Context(), u, row.flag, DisableDecisionEvent, row.env)), name)
		}
	}
}

// A forced decision for a rule with a foreign variation: the visited rule's ids,
// the foreign variation's id and key. Source: decide.md section 10.
func TestForeignVariationImpression(t *testing.T) {
	p := compiled(t, file(object{
		"experiments": array{ruleOf("1", nil), ruleOf("2", nil)}, "featureFlags": array{flagOf("f", "", "1", "2")},
	}))
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "r1", "v2")
	require.Equal(t, `{"campaign_id":"L1","experiment_id":"1","variation_id":"21","metadata":{"flag_key":"f","rule_key":"r1","rule_type":"feature-test","variation_key":"v2","enabled":true}}`,
		decisionPart(t, p, u, "f", nil))
}

// Ids in events. A variation whose id is "" isn't found by it (EV-21; recorded from
// Python 5.7.0). Source: EV-16, EV-17, EV-19.
func TestEventIDs(t *testing.T) {
	for id, want := range map[string]string{
		"123": `"123"`, "007": `"007"`, "": "null", " 1": "null", "-1": "null", "1.5": "null", "1a": "null", "٣": "null", "１": "null", "var_x": "null", "+1": "null",
		"99999999999999999999999999": `"99999999999999999999999999"`,
	} {
		key := "k"
		if id == "" {
			key = ""
		}
		p := compiled(t, file(object{
			"experiments": array{ruleOf("1", object{
				"variations": array{object{"id": id, "key": "k"}}, "forcedVariations": object{"u": "k"}, "trafficAllocation": array{},
			})},
			"featureFlags": array{flagOf("f", "", "1")},
		}))
		require.Contains(t, decisionPart(t, p, userOf(t, p, "u", ""), "f", nil), fmt.Sprintf(`"variation_id":%s,"metadata":{"flag_key":"f","rule_key":"r1","rule_type":"feature-test","variation_key":%q`, want, key))
	}
	for layer, want := range map[string]string{"40001": "40001", "layer_abc": "layer_abc", "": "default-1-2", " ": " ", "é": "é"} {
		p := compiled(t, file(object{
			"experiments":  array{ruleOf("default-1-2", object{"layerId": layer})},
			"featureFlags": array{flagOf("f", "", "default-1-2")},
		}))
		require.Contains(t, decisionPart(t, p, userOf(t, p, "u", ""), "f", nil), fmt.Sprintf(`{"campaign_id":%q,"experiment_id":"default-1-2",`, want))
	}
}

// Visitors: the user id as given, text beyond ASCII as UTF-8. Source: section 2, EV-P2.
func TestVisitorIDs(t *testing.T) {
	p := onOff(t)
	for id, want := range map[string]string{"": `""`, "é😀": `"é😀"`, "a\"b\\c\n": `"a\"b\\c\n"`, "\x00": `"\u0000"`, "<&>": `"<&>"`, "\r\t\x7f": "\"\\r\\t\x7f\"", "a\xffb\xc3": `"a�b�"`} {
		u := userOf(t, p, id, `{"$opt_bucketing_id":"other"}`)
		im := AppendImpressions(nil, []Decision{p.Decide(t.Context(), u, "on", 0, nil)})[0]
		got := string(im.AppendVisitor([]byte("x"), u, testUUID, workedTime))
		require.True(t, strings.HasPrefix(got, `x{"visitor_id":`+want+`,"attributes":[`), got)
		require.Contains(t, got, `"uuid":"`+testUUID+`","timestamp":1767225600123}]}]}`)
		require.NotContains(t, got, "revenue")
		require.NotContains(t, got, "tags")
	}
}
