package decision

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// everything is a datafile with every kind of entity, and whole: each test below
// breaks one thing in it.
const everything = `{
 "version":"4","accountId":"1001","projectId":"2002","revision":"33","sdkKey":"key","environmentKey":"production","region":"EU",
 "anonymizeIP":true,"botFiltering":false,"sendFlagDecisions":true,"unknown":{"x":[1]},
 "attributes":[{"id":"301","key":"plan"}],
 "events":[{"id":"901","key":"purchase","experimentIds":["611"]}],
 "audiences":[{"id":"400","name":"old","conditions":"[\"or\",{\"name\":\"plan\",\"type\":\"custom_attribute\",\"value\":\"x\"}]"}],
 "typedAudiences":[{"id":"401","name":"pro","conditions":["or",{"name":"plan","type":"custom_attribute","match":"exact","value":"pro"}]}],
 "groups":[{"id":"501","policy":"random","trafficAllocation":[{"entityId":"601","endOfRange":4000}],"experiments":[
  {"id":"601","key":"g","status":"Running","layerId":"L","variations":[{"id":"6011","key":"ga"}],"trafficAllocation":[{"entityId":"6011","endOfRange":10000}],"audienceIds":[],"forcedVariations":{}}]}],
 "experiments":[{"id":"611","key":"exp","status":"Running","layerId":"L611","audienceIds":["401"],"audienceConditions":["or","401"],"forcedVariations":{"w":"a"},"type":"ab",
  "variations":[{"id":"6111","key":"a","featureEnabled":true,"variables":[{"id":"911","value":"7"}]}],"trafficAllocation":[{"entityId":"6111","endOfRange":3000}],
  "cmab":{"attributeIds":["301"],"trafficAllocation":5000}}],
 "rollouts":[{"id":"701","experiments":[{"id":"711","key":"d1","status":"Running","layerId":"L711","variations":[{"id":"7111","key":"on","featureEnabled":true}],
  "trafficAllocation":[{"entityId":"7111","endOfRange":5000}],"audienceIds":["401"],"forcedVariations":{}}]}],
 "featureFlags":[{"id":"801","key":"main","experimentIds":["611","601"],"rolloutId":"701","variables":[{"id":"911","key":"size","type":"integer","subType":"x","defaultValue":"1"}]}],
 "holdouts":[{"id":"H1","key":"h","status":"Running","audienceIds":[],"variations":[{"id":"1","key":"off"}],"trafficAllocation":[]}],
 "localHoldouts":[{"id":"H2","key":"l","status":"Running","audienceIds":[],"variations":[{"id":"2","key":"off"}],"trafficAllocation":[],"includedRules":["611"]}],
 "integrations":[{"key":"odp","host":"https://h","publicKey":"pk"}]
}`

// at returns the container and last step of a path such as "groups[0].id".
func at(t testing.TB, root any, path string) (container any, last string) {
	t.Helper()
	steps := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	for i, step := range steps {
		if i == len(steps)-1 {
			return root, step
		}
		switch c := root.(type) {
		case object:
			root = c[step]
		case array:
			n, err := strconv.Atoi(step)
			require.NoError(t, err)
			root = c[n]
		default:
			require.Failf(t, "no such path", "%s at %s", path, step)
		}
	}
	return nil, ""
}

// changed is everything with the value at a path replaced; "" removes a member.
func changed(t testing.TB, path, value string) []byte {
	t.Helper()
	root := parsed(t, everything)
	c, last := at(t, root, path)
	switch c := c.(type) {
	case object:
		if value == "" {
			require.Contains(t, c, last, path)
			delete(c, last)
		} else {
			c[last] = parsed(t, value)
		}
	case array:
		n, err := strconv.Atoi(last)
		require.NoError(t, err)
		c[n] = parsed(t, value)
	}
	return marshal(t, root)
}

// faultsOf lists the paths of the faults of a datafile.
func faultsOf(t testing.TB, raw []byte, options ...CompileOption) []string {
	t.Helper()
	p, err := Compile(raw, options...)
	if err == nil {
		require.NotNil(t, p)
		return nil
	}
	require.Nil(t, p)
	var invalid *DatafileError
	require.ErrorAs(t, err, &invalid)
	require.NotEmpty(t, invalid.Faults)
	var out []string
	for _, f := range invalid.Faults {
		require.NotEmpty(t, f.Message)
		require.Contains(t, f.String(), f.Path+": ")
		out = append(out, f.Path)
	}
	return out
}

func TestEverythingCompiles(t *testing.T) {
	p, err := Compile([]byte(everything))
	require.NoError(t, err)
	require.Empty(t, p.Warnings())
	require.Equal(t, Summary{
		Version: "4", Revision: "33", AccountID: "1001", ProjectID: "2002", Flags: 1, ExperimentRules: 2, DeliveryRules: 1, Holdouts: 2,
		Groups: 1, Audiences: 2, Attributes: 1, Events: 1, SendFlagDecisions: true, Digest: p.Digest(),
	}, p.Summary())
	require.Equal(t, everything, string(p.Datafile())) // DF-5
	require.Equal(t, []string{"key", "production"}, []string{p.SDKKey(), p.EnvironmentKey()})
	host, key := p.ODP()
	require.Equal(t, []string{"https://h", "pk"}, []string{host, key})
}

// Text that is no datafile. Source: datafile.md DF-1, DF-P1, DF-3.
func TestNotADatafile(t *testing.T) {
	for _, text := range []string{
		"", " ", "{", "null", "[]", "5", `"x"`, "true", "\ufeff" + everything, everything + "x", everything + everything, "{}{}",
		"\xff", `{"version":"4","x":"` + "\xff" + `"}`, strings.Replace(everything, `[1]`, `NaN`, 1),
		strings.Replace(everything, `[1]`, `Infinity`, 1), strings.Replace(everything, `[1]`, `-Infinity`, 1),
		strings.Replace(everything, `[1]`, `'1'`, 1), strings.Replace(everything, `[1]`, `01`, 1), strings.Repeat("[", 100000),
	} {
		for _, options := range [][]CompileOption{nil, {SkipSchemaValidation()}} {
			_, err := Compile([]byte(text), options...)
			require.Error(t, err, "%.40q", text)
			require.NotErrorIs(t, err, ErrUnsupportedVersion)
			require.Equal(t, []string{"$"}, faultsOf(t, []byte(text), options...), "%.40q", text)
		}
	}
	require.Nil(t, faultsOf(t, []byte(" \r\n\t"+everything+" \n")))
	// The last of repeated keys counts. Source: DF-2.
	require.Nil(t, faultsOf(t, []byte(strings.Replace(everything, `"version":"4"`, `"version":5,"version":"4"`, 1))))
	require.NotNil(t, faultsOf(t, []byte(strings.Replace(everything, `"version":"4"`, `"version":"4","version":5`, 1))))
}

// Source: datafile.md DF-3.
func TestVersionOfDatafile(t *testing.T) {
	for _, version := range []string{`"2"`, `"3"`, `"4"`} {
		p, err := Compile(changed(t, "version", version))
		require.NoError(t, err)
		require.Equal(t, version, strconv.Quote(p.Version()))
	}
	for _, version := range []string{`4`, `null`, ``, `"1"`, `"5"`, `""`, `"4.0"`, `true`, `["4"]`, `" 4"`} {
		for _, options := range [][]CompileOption{nil, {SkipSchemaValidation()}} {
			_, err := Compile(changed(t, "version", version), options...)
			require.ErrorIs(t, err, ErrUnsupportedVersion, version)
			require.Equal(t, []string{"$.version"}, faultsOf(t, changed(t, "version", version), options...))
		}
	}
	_, err := Compile(changed(t, "revision", "5"))
	require.NotErrorIs(t, err, ErrUnsupportedVersion)
	// Versions 2 and 3 have no flags.
	require.Nil(t, faultsOf(t, []byte(`{"version":"2","accountId":"","projectId":"","revision":"","attributes":[],"events":[],"audiences":[],"groups":[],"experiments":[]}`)))
}

// required lists every member that must be there; those in brackets only for the
// schema step. Source: datafile.md 2.1 and 2.2.
const requiredMembers = `(projectId) (accountId) (events) (audiences) (attributes) groups experiments revision
 groups[0].id groups[0].policy groups[0].trafficAllocation groups[0].experiments (groups[0].trafficAllocation[0].entityId) (groups[0].trafficAllocation[0].endOfRange)
 experiments[0].id experiments[0].layerId experiments[0].key experiments[0].status experiments[0].variations experiments[0].trafficAllocation
 experiments[0].audienceIds experiments[0].forcedVariations experiments[0].variations[0].id experiments[0].variations[0].key
 (experiments[0].trafficAllocation[0].entityId) (experiments[0].trafficAllocation[0].endOfRange)
 experiments[0].variations[0].variables[0].id experiments[0].variations[0].variables[0].value experiments[0].cmab.trafficAllocation
 groups[0].experiments[0].id groups[0].experiments[0].layerId groups[0].experiments[0].key groups[0].experiments[0].status
 groups[0].experiments[0].variations groups[0].experiments[0].trafficAllocation groups[0].experiments[0].audienceIds groups[0].experiments[0].forcedVariations
 groups[0].experiments[0].variations[0].id groups[0].experiments[0].variations[0].key
 (groups[0].experiments[0].trafficAllocation[0].entityId) (groups[0].experiments[0].trafficAllocation[0].endOfRange)
 rollouts[0].id rollouts[0].experiments rollouts[0].experiments[0].id rollouts[0].experiments[0].layerId rollouts[0].experiments[0].key
 rollouts[0].experiments[0].status rollouts[0].experiments[0].variations rollouts[0].experiments[0].trafficAllocation rollouts[0].experiments[0].audienceIds
 rollouts[0].experiments[0].forcedVariations rollouts[0].experiments[0].variations[0].id rollouts[0].experiments[0].variations[0].key
 events[0].id events[0].key events[0].experimentIds audiences[0].id audiences[0].name audiences[0].conditions
 typedAudiences[0].id typedAudiences[0].name typedAudiences[0].conditions attributes[0].id attributes[0].key integrations[0].key
 featureFlags[0].id featureFlags[0].key featureFlags[0].experimentIds featureFlags[0].rolloutId featureFlags[0].variables
 featureFlags[0].variables[0].id featureFlags[0].variables[0].key featureFlags[0].variables[0].type featureFlags[0].variables[0].defaultValue
 holdouts[0].id holdouts[0].key holdouts[0].status holdouts[0].variations holdouts[0].trafficAllocation holdouts[0].audienceIds
 holdouts[0].variations[0].id holdouts[0].variations[0].key
 localHoldouts[0].id localHoldouts[0].key localHoldouts[0].status localHoldouts[0].variations localHoldouts[0].trafficAllocation localHoldouts[0].audienceIds`

func TestMissingMembers(t *testing.T) {
	for _, member := range strings.Fields(requiredMembers) {
		path := strings.Trim(member, "()")
		isSchema := path != member
		raw := changed(t, path, "")
		require.Equal(t, []string{"$." + path}, faultsOf(t, raw), "one fault, of exactly this path")
		skipped := faultsOf(t, raw, SkipSchemaValidation())
		if isSchema {
			require.Nil(t, skipped, "%s is only the schema step's", path)
		} else {
			require.Equal(t, []string{"$." + path}, skipped)
		}
	}
}

// Whatever else stands in the file may be missing. Source: DF-6, 2.1 (note), 2.2.
func TestOptionalMembers(t *testing.T) {
	for _, path := range strings.Fields(`sdkKey environmentKey region anonymizeIP botFiltering sendFlagDecisions typedAudiences rollouts featureFlags holdouts
		localHoldouts integrations experiments[0].audienceConditions experiments[0].type experiments[0].cmab experiments[0].cmab.attributeIds
		experiments[0].variations[0].featureEnabled experiments[0].variations[0].variables featureFlags[0].variables[0].subType
		localHoldouts[0].includedRules integrations[0].host integrations[0].publicKey rollouts[0].experiments[0].trafficAllocation[0].entityId
		rollouts[0].experiments[0].trafficAllocation[0].endOfRange unknown`) {
		require.Nil(t, faultsOf(t, changed(t, path, "")), path)
	}
}

// The wrong type anywhere is a fault with the path of the value.
// Source: datafile.md DF-P6, 2.2 (further reasons 1 to 6), 2.4.
func TestWrongTypes(t *testing.T) {
	strings_ := strings.Fields(`projectId accountId revision sdkKey environmentKey region groups[0].id groups[0].policy groups[0].trafficAllocation[0].entityId
		experiments[0].id experiments[0].key experiments[0].layerId experiments[0].status experiments[0].type experiments[0].audienceIds[0]
		experiments[0].variations[0].id experiments[0].variations[0].key experiments[0].trafficAllocation[0].entityId
		experiments[0].variations[0].variables[0].id experiments[0].variations[0].variables[0].value experiments[0].cmab.attributeIds[0]
		events[0].id events[0].key events[0].experimentIds[0] audiences[0].id audiences[0].name audiences[0].conditions typedAudiences[0].id typedAudiences[0].name
		attributes[0].id attributes[0].key integrations[0].key integrations[0].host integrations[0].publicKey
		rollouts[0].id rollouts[0].experiments[0].id rollouts[0].experiments[0].trafficAllocation[0].entityId
		featureFlags[0].id featureFlags[0].key featureFlags[0].rolloutId featureFlags[0].experimentIds[1] featureFlags[0].variables[0].id
		featureFlags[0].variables[0].key featureFlags[0].variables[0].type featureFlags[0].variables[0].subType featureFlags[0].variables[0].defaultValue
		holdouts[0].id holdouts[0].key holdouts[0].status localHoldouts[0].includedRules[0]`)
	for _, path := range strings_ {
		for _, value := range []string{`5`, `true`, `[]`, `{}`} {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
		}
	}
	arrays := strings.Fields(`groups experiments events audiences attributes typedAudiences rollouts featureFlags holdouts localHoldouts integrations
		groups[0].trafficAllocation groups[0].experiments experiments[0].variations experiments[0].trafficAllocation events[0].experimentIds
		rollouts[0].experiments featureFlags[0].experimentIds featureFlags[0].variables holdouts[0].trafficAllocation holdouts[0].variations`)
	for _, path := range arrays {
		for _, value := range []string{`null`, `5`, `"x"`, `{}`} {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
		}
	}
	for _, path := range strings.Fields(`groups[0] experiments[0] events[0] audiences[0] attributes[0] typedAudiences[0] rollouts[0] featureFlags[0] holdouts[0]
		localHoldouts[0] integrations[0] experiments[0].variations[0] experiments[0].trafficAllocation[0] groups[0].experiments[0] rollouts[0].experiments[0]
		experiments[0].variations[0].variables[0] featureFlags[0].variables[0]`) {
		for _, value := range []string{`null`, `5`, `"x"`, `[]`} {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
		}
	}
	for _, path := range strings.Fields(`anonymizeIP botFiltering sendFlagDecisions experiments[0].variations[0].featureEnabled holdouts[0].variations[0].featureEnabled`) {
		require.Nil(t, faultsOf(t, changed(t, path, `null`)), path)
		for _, value := range []string{`"true"`, `1`, `[]`} {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
		}
	}
	for path, values := range map[string][]string{
		"experiments[0].forcedVariations":   {`5`, `[]`, `"x"`},
		"experiments[0].cmab":               {`5`, `["x"]`, `"x"`, `true`},
		"experiments[0].audienceConditions": {`5`, `true`, `{}`, `{"name":"x"}`},
	} {
		for _, value := range values {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
		}
	}
	require.Equal(t, []string{"$.experiments[0].forcedVariations"}, faultsOf(t, changed(t, "experiments[0].forcedVariations", `{"secret":5}`)), "user ids stay out of paths")
}

// Whole numbers may be written with a fraction of nothing, with a warning.
// Source: datafile.md DF-P6, DF-P7, 2.4.
func TestIntegers(t *testing.T) {
	paths := strings.Fields(`experiments[0].trafficAllocation[0].endOfRange groups[0].trafficAllocation[0].endOfRange
		rollouts[0].experiments[0].trafficAllocation[0].endOfRange experiments[0].cmab.trafficAllocation`)
	for _, path := range paths {
		for value, warnings := range map[string]int{`10000`: 0, `0`: 0, `-5`: 0, `20000`: 0, `123456789012345678901234567890`: 0, `10000.0`: 1, `1e4`: 1, `-0.0`: 1} {
			p, err := Compile(changed(t, path, value))
			require.NoError(t, err, "%s %s", path, value)
			require.Len(t, p.Warnings(), warnings, "%s %s", path, value)
			if warnings > 0 {
				require.Equal(t, "$."+path, p.Warnings()[0].Path)
			}
		}
		for _, value := range []string{`"10000"`, `5000.5`, `true`, `[]`, `{}`, `1e400`} {
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value)), value)
			require.Equal(t, []string{"$." + path}, faultsOf(t, changed(t, path, value), SkipSchemaValidation()), value)
		}
	}
	require.Equal(t, []string{"$.experiments[0].cmab.trafficAllocation"}, faultsOf(t, changed(t, "experiments[0].cmab.trafficAllocation", "null")))
	require.Equal(t, []string{"$.experiments[0].trafficAllocation[0].endOfRange"}, faultsOf(t, changed(t, "experiments[0].trafficAllocation[0].endOfRange", "null")))
	for _, none := range []string{`null`, `{}`} { // DF-P7: not a bandit
		p, err := Compile(changed(t, "experiments[0].cmab", none))
		require.NoError(t, err)
		require.False(t, p.flags[0].hasBandit)
	}
}

// Source: datafile.md 2.2 (further reasons 1, 2), DF-P2, DF-P3, DF-P4, row 30.
func TestReferencesAndTrees(t *testing.T) {
	for _, conditions := range []string{``, `[`, `["or"] x`, `{'a':1}`, `NaN`, `["or",NaN]`} {
		raw := changed(t, "audiences[0].conditions", string(marshal(t, conditions)))
		require.Equal(t, []string{"$.audiences[0].conditions"}, faultsOf(t, raw), conditions)
	}
	require.Equal(t, []string{"$.featureFlags[0].experimentIds[1]"}, faultsOf(t, changed(t, "featureFlags[0].experimentIds", `["611","nope"]`)))
	require.Equal(t, []string{"$.featureFlags[0].experimentIds[0]", "$.featureFlags[0].experimentIds[2]"},
		faultsOf(t, changed(t, "featureFlags[0].experimentIds", `[5,"611","nope"]`)), "the place in the file's list")
	require.Nil(t, faultsOf(t, changed(t, "featureFlags[0].experimentIds", `["711"]`)), "delivery rules exist too")
	for _, value := range []string{`null`, `5`} {
		require.Equal(t, []string{"$.featureFlags[0].rolloutId"}, faultsOf(t, changed(t, "featureFlags[0].rolloutId", value)))
	}

	p, err := Compile(changed(t, "featureFlags[0].rolloutId", `"nope"`)) // DF-P2
	require.NoError(t, err)
	require.Equal(t, "$.featureFlags[0].rolloutId", p.Warnings()[0].Path)
	require.Zero(t, p.Summary().DeliveryRules)

	for _, path := range []string{"experiments[0].forcedVariations", "experiments[0].audienceIds", "experiments[0].variations[0].variables", "holdouts[0].audienceIds"} {
		p, err := Compile(changed(t, path, `null`)) // DF-P3
		require.NoError(t, err, path)
		require.Equal(t, "$."+path, p.Warnings()[0].Path)
	}

	for tree, path := range map[string]string{ // DF-P4
		`["or","401",5]`: "[2]", `["or",["and",{}]]`: "[1][1]", `["or",null]`: "[1]", `[true]`: "[0]", `[[["or",["x",1.5]]]]`: "[0][0][1][1]",
	} {
		require.Equal(t, []string{"$.experiments[0].audienceConditions" + path}, faultsOf(t, changed(t, "experiments[0].audienceConditions", tree)), tree)
	}
	for _, tree := range []string{`[["or","401"]]`, `[[["401"]]]`, `"401"`, `""`, `[]`, `[[]]`, `null`, `["not"]`} { // legal, row 23a
		require.Nil(t, faultsOf(t, changed(t, "experiments[0].audienceConditions", tree)), tree)
	}
}

// Every fault is reported, in the order of the sections, whatever others there are.
func TestAllFaultsAtOnce(t *testing.T) {
	root := parsed(t, everything).(object)
	breaks := map[string]any{
		"version": "9", "accountId": 5, "revision": nil, "attributes[0].key": 1, "typedAudiences[0].name": false,
		"experiments[0].trafficAllocation[0].endOfRange": "x", "experiments[0].status": nil,
		"rollouts[0].experiments[0].variations": nil, "featureFlags[0].experimentIds[1]": "nope", "featureFlags[0].variables[0].defaultValue": 5,
		"holdouts[0].status": 1, "integrations[0].host": 3,
	}
	var want []string
	for path, value := range breaks {
		c, last := at(t, root, path)
		if list, ok := c.(array); ok {
			n, err := strconv.Atoi(last)
			require.NoError(t, err)
			list[n] = value
		} else {
			c.(object)[last] = value
		}
		want = append(want, "$."+path)
	}
	raw := marshal(t, root)
	got := faultsOf(t, raw)
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got)
	_, err := Compile(raw)
	require.ErrorIs(t, err, ErrUnsupportedVersion)
	require.Contains(t, err.Error(), fmt.Sprintf("and %d more", len(breaks)-3))

	// A rule whose id is lost makes no unknown references.
	require.Equal(t, []string{"$.experiments"}, faultsOf(t, changed(t, "experiments", "")))
	require.Equal(t, []string{"$.groups[0]"}, faultsOf(t, changed(t, "groups[0]", "5")))
}

// Source: datafile.md section 2.4, columns of the schema step and of ours (DF-P6).
func TestAcceptance(t *testing.T) {
	for _, row := range []struct {
		path, value      string
		isValid, skipped bool
	}{
		{"accountId", "", false, true}, {"projectId", "", false, true}, {"revision", "", false, false}, // DF-P5
		{"revision", "5", false, true}, {"accountId", "5", false, true}, {"projectId", "5", false, true},
		{"events", "", false, true}, {"audiences", "", false, true}, {"attributes", "", false, true},
		{"featureFlags", "", true, true}, {"typedAudiences", "", true, true}, {"rollouts", "", true, true},
		{"anonymizeIP", `"x"`, false, false}, {"botFiltering", `"x"`, false, false}, {"sendFlagDecisions", `"x"`, false, false},
		{"experiments[0].status", `"Strange"`, true, true}, {"experiments[0].status", `""`, true, true},
		{"featureFlags[0].experimentIds", `["nope"]`, false, false}, {"featureFlags[0].rolloutId", `"nope"`, true, true}, {"featureFlags[0].rolloutId", `""`, true, true},
		{"featureFlags[0].variables[0].defaultValue", "", false, false}, {"featureFlags[0].variables[0].defaultValue", "5", false, false},
		{"integrations[0].key", "", false, false}, {"integrations[0].key", "null", false, false}, {"integrations[0].key", `""`, true, true},
		{"integrations", "null", false, true}, {"integrations[0].host", "null", false, true}, {"integrations[0].publicKey", "null", false, true},
		{"region", "null", true, true}, {"region", `"AP"`, true, true}, {"sdkKey", "null", true, true},
		{"typedAudiences", "null", false, false}, {"holdouts", "null", false, false}, {"featureFlags", "null", false, false},
		{"localHoldouts[0].includedRules", "null", true, true}, {"localHoldouts[0].includedRules", "[]", true, true},
		{"holdouts[0].status", `"Strange"`, true, true},
	} {
		raw := changed(t, row.path, row.value)
		require.Equal(t, row.isValid, faultsOf(t, raw) == nil, "%s = %s", row.path, row.value)
		require.Equal(t, row.skipped, faultsOf(t, raw, SkipSchemaValidation()) == nil, "schema skipped: %s = %s", row.path, row.value)
	}
	p, err := Compile(changed(t, "revision", "42"), SkipSchemaValidation())
	require.NoError(t, err)
	require.Equal(t, "42", p.Revision())
}
