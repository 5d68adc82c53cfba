package decision

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The audience texts of legacy-api.md section 6.
func TestAudienceText(t *testing.T) {
	for tree, want := range map[string]string{
		`null`: ``, `[]`: ``, `["or"]`: ``, `["not"]`: ``,
		`["1"]`: `"N1"`, `["or","1"]`: `"N1"`, `["and","1"]`: `"N1"`,
		`["not","1"]`:                            `NOT "N1"`,
		`["1","2"]`:                              `"N1" OR "N2"`,
		`["or","1","2"]`:                         `"N1" OR "N2"`,
		`["and","1","2","3"]`:                    `"N1" AND "N2" AND "N3"`,
		`["not",["or","1","2"]]`:                 `NOT ("N1" OR "N2")`,
		`["or",["and","1","2"],"3"]`:             `("N1" AND "N2") OR "N3"`,
		`["and",["or","1","2"],["not","3"]]`:     `("N1" OR "N2") AND (NOT "N3")`,
		`["or",["and",["or","1","2"],"3"],"zz"]`: `(("N1" OR "N2") AND "N3") OR "zz"`,
		`["and",["and","1","2"],"1","2"]`:        `("N1" AND "N2") AND "N1" AND "N2"`,
		`["or",["or","1"]]`:                      `("N1")`,
		`[["or","1"]]`:                           `("N1")`,
	} {
		raw := fmt.Sprintf(`{"version":"4","accountId":"1","projectId":"2","revision":"7","attributes":[],"events":[],"groups":[],
			"audiences":[],"typedAudiences":[{"id":"1","name":"N1","conditions":[]},{"id":"2","name":"N2","conditions":[]},{"id":"3","name":"N3","conditions":[]}],
			"experiments":[{"id":"5","key":"e","layerId":"","status":"Running","audienceIds":["1"],"forcedVariations":{},
				"variations":[],"trafficAllocation":[],"audienceConditions":%s}]}`, tree)
		p, err := Compile([]byte(raw))
		require.NoError(t, err, tree)
		require.Equal(t, want, p.Config().Experiments["e"].Audiences, tree)
		first := p.Config()
		require.Same(t, first, p.Config())
	}
}

// Experiments are found by key whether a flag lists them or not.
func TestExperimentByKey(t *testing.T) {
	rule := func(id, key, status string) string {
		return fmt.Sprintf(`{"id":%q,"key":%q,"layerId":"L","status":%q,"audienceIds":[],"forcedVariations":{"w":"b"},
			"variations":[{"id":"1%s","key":"a"},{"id":"2%s","key":"b"}],"trafficAllocation":[{"entityId":"1%s","endOfRange":10000}]}`, id, key, status, id, id, id)
	}
	raw := `{"version":"4","accountId":"1","projectId":"2","revision":"7","attributes":[],"events":[],"audiences":[],
		"groups":[{"id":"9","policy":"random","trafficAllocation":[],"experiments":[` + rule("53", "grouped", "Running") + `]}],
		"experiments":[` + rule("51", "listed", "Running") + `,` + rule("52", "alone", "Running") + `,` + rule("54", "paused", "Paused") + `],
		"rollouts":[{"id":"8","experiments":[` + rule("55", "delivery", "Running") + `]}],
		"featureFlags":[{"id":"91","key":"flag","experimentIds":["51"],"rolloutId":"8","variables":[]}]}`
	p, err := Compile([]byte(raw))
	require.NoError(t, err)
	var u User
	get := func(user, key string) any {
		u.Reset(p, user)
		d, ok := p.Experiment(context.Background(), &u, key, 0, nil)
		if !ok {
			return "unknown"
		}
		return orNil(d.VariationKey())
	}
	require.Equal(t, "a", get("u", "listed"))
	require.Equal(t, "a", get("u", "alone"))
	require.Equal(t, "b", get("w", "alone"))
	require.Nil(t, get("u", "paused"))
	require.Nil(t, get("u", "grouped"), "the group lets nobody in")
	require.Equal(t, "b", get("w", "grouped"))
	require.Equal(t, "unknown", get("u", "delivery"))
	require.Equal(t, "unknown", get("u", "nope"))

	info, ok := p.ExperimentInfo("listed")
	require.True(t, ok && info.IsFeature && info.ID == "51")
	info, ok = p.ExperimentInfo("alone")
	require.True(t, ok && !info.IsFeature)

	u.Reset(p, "u")
	d, _ := p.Experiment(context.Background(), &u, "alone", 0, nil)
	im, ok := d.Activation()
	require.True(t, ok)
	var visitor map[string]any
	require.NoError(t, json.Unmarshal(im.AppendVisitor(nil, &u, testUUID, 1), &visitor))
	decided := visitor["snapshots"].([]any)[0].(map[string]any)["decisions"].([]any)[0]
	require.Equal(t, map[string]any{"campaign_id": "L", "experiment_id": "52", "variation_id": "152", "metadata": map[string]any{
		"flag_key": "", "rule_key": "alone", "rule_type": "experiment", "variation_key": "a", "enabled": true}}, decided)
}
