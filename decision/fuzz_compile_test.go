package decision

import (
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzCompile looks for a datafile that makes compiling or deciding panic, or a
// fault without a path.
func FuzzCompile(f *testing.F) {
	f.Add([]byte(minimalDatafile))
	f.Add([]byte(`{"version":"4","revision":"1","experiments":[{"id":"","key":"","status":"Running","layerId":"","audienceIds":[],"audienceConditions":[[],["not"]],"variations":[{"id":"","key":""}],"forcedVariations":{"":""},"trafficAllocation":[{"entityId":"","endOfRange":1e9}],"cmab":{"attributeIds":[""],"trafficAllocation":1}}],"groups":[],"featureFlags":[{"id":"","key":"","experimentIds":["",""],"rolloutId":"","variables":[]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) { tryDatafile(t, raw) })
}

// tryDatafile compiles a datafile both ways; it reports whether either worked.
func tryDatafile(t *testing.T, raw []byte) (compiles bool) {
	for _, options := range [][]CompileOption{nil, {SkipSchemaValidation()}} {
		p, err := Compile(raw, options...)
		if err != nil {
			var invalid *DatafileError
			require.ErrorAs(t, err, &invalid)
			require.NotEmpty(t, invalid.Faults)
			for _, fault := range invalid.Faults {
				require.True(t, strings.HasPrefix(fault.Path, "$"), "%v", fault)
				require.NotEmpty(t, fault.Message)
			}
			continue
		}
		tryProject(t, p)
		compiles = true
	}
	return compiles
}

// edit changes a few places of a datafile: values go, come, and change places
// with others of the file.
func (s *source) edit(root any) any {
	var places []func(v any) // each sets one value
	var values []any
	var visit func(v any)
	visit = func(v any) {
		values = append(values, v)
		switch c := v.(type) {
		case object:
			for _, k := range slices.Sorted(maps.Keys(c)) {
				places = append(places, func(v any) { c[k] = v }, func(any) { delete(c, k) })
				visit(c[k])
			}
		case array:
			for i := range c {
				places = append(places, func(v any) { c[i] = v })
				visit(c[i])
			}
		}
	}
	visit(root)
	// Texts and short lists repeat throughout a datafile, so that references are hit.
	replacement := choose[any](s, values[s.pick(len(values))], values[s.pick(len(values))], s.value(), s.tree(2, false, s.condition), traffic("6111:5000, :6000, 601:10000"))
	place := s.pick(len(places)/256+1)*256 + s.pick(256)
	places[place%len(places)](replacement)
	return root
}

func tryEdited(t *testing.T, s *source) bool {
	root := parsed(t, everything)
	for range 1 + s.pick(2) {
		root = s.edit(parsed(t, string(marshal(t, root)))) // a copy, so that no value contains itself
		if hasLoop(root, 0) {
			return false
		}
	}
	return tryDatafile(t, marshal(t, root))
}

// hasLoop tells whether a value was put inside itself.
func hasLoop(v any, depth int) bool {
	if depth > 50 {
		return true
	}
	switch c := v.(type) {
	case object:
		for _, x := range c {
			if hasLoop(x, depth+1) {
				return true
			}
		}
	case array:
		for _, x := range c {
			if hasLoop(x, depth+1) {
				return true
			}
		}
	}
	return false
}

// FuzzEditedDatafile compiles a whole datafile with places changed, which gets
// further than changed bytes.
func FuzzEditedDatafile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 10, 20, 2, 30, 1, 40, 5, 9, 9, 9, 9, 100, 120, 130})
	f.Fuzz(func(t *testing.T, data []byte) { tryEdited(t, &source{data: data}) })
}

// A few thousand edits, a good part of which still compile.
func TestEditedDatafiles(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	compiles := 0
	for range 1500 {
		if tryEdited(t, &source{rand: rnd.IntN}) {
			compiles++
		}
	}
	require.Greater(t, compiles, 150)
	t.Logf("%d of 1500 compiled", compiles)
}

const minimalDatafile = `{"version":"4","accountId":"1","projectId":"2","revision":"7","attributes":[{"id":"31","key":"plan"}],
 "events":[],"groups":[],"audiences":[],
 "typedAudiences":[{"id":"41","name":"pro","conditions":["or",{"name":"plan","type":"custom_attribute","match":"exact","value":"pro"}]}],
 "experiments":[{"id":"51","key":"exp","status":"Running","layerId":"61","audienceIds":["41"],"forcedVariations":{},
   "variations":[{"id":"71","key":"on","featureEnabled":true,"variables":[{"id":"81","value":"7"}]}],
   "trafficAllocation":[{"entityId":"71","endOfRange":5000}]}],
 "featureFlags":[{"id":"91","key":"flag","experimentIds":["51"],"rolloutId":"","variables":[
   {"id":"81","key":"size","type":"integer","defaultValue":"1"}]}]}`

// tryProject decides, explains and renders everything for a few users.
func tryProject(t testing.TB, p *Project) {
	env := &Env{Profiles: &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"1": {VariationID: "11"}}}}, Predictor: &fakePredictor{}}
	var u User
	for i, id := range []string{"", "u", "é"} {
		u.Reset(p, id)
		if i > 0 {
			for _, slot := range p.slots {
				u.SetAttribute(slot.key, []Value{String("1.0"), Number("1"), Bool(true)}[len(slot.key)%3])
			}
			u.SetSegments(p.segments)
		}
		if i > 1 && len(p.flags) > 0 {
			u.SetForcedDecision(p.FlagKey(0), "", "nope")
		}
		all := p.DecideAll(t.Context(), nil, &u, IncludeReasons, env)
		require.Len(t, all, p.NumFlags())
		for k := range all {
			d := &all[k]
			require.True(t, json.Valid([]byte(d.VariablesJSON())), "%s", d.VariablesJSON())
			require.Less(t, d.Fragment(), p.NumFragments())
			e := p.Explain(t.Context(), &u, d.FlagKey(), IncludeReasons, env)
			_, err := json.Marshal(e)
			require.NoError(t, err)
		}
		for _, im := range AppendImpressions(nil, all) {
			require.True(t, json.Valid(im.AppendVisitor(nil, &u, testUUID, 1)))
		}
	}
	require.True(t, json.Valid(AppendBatchTail(p.AppendBatchHead(nil, Client{}))))
	_, err := json.Marshal(p.Config())
	require.NoError(t, err)
	p.Summary()
}

// Source: datafile.md section 7.
func TestMinimalDatafile(t *testing.T) {
	p, err := Compile([]byte(minimalDatafile))
	require.NoError(t, err)
	require.Empty(t, p.Warnings())
	tryProject(t, p)
	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "flag", 0, nil)
	require.Equal(t, `{"size":1}`, d.VariablesJSON())
}

// checkNumber compares a literal with strconv and the grammar of JSON.
func checkNumber(t *testing.T, literal string) {
	v := Number(literal)
	isJSON := json.Valid([]byte(literal)) && strings.TrimSpace(literal) == literal && literal != "" && (literal[0] == '-' || literal[0] >= '0' && literal[0] <= '9')
	if !isJSON {
		require.Equal(t, Null(), v, "%q is no JSON number", literal)
		return
	}
	require.Equal(t, KindNumber, v.Kind(), "%q", literal)
	require.Equal(t, literal, string(v.AppendJSON(nil)))
	want, err := strconv.ParseFloat(literal, 64)
	require.True(t, err == nil || math.IsInf(want, 0))
	require.Equal(t, math.Float64bits(want), math.Float64bits(v.num), "%q", literal)
	isInt := !strings.ContainsAny(literal, ".eE")
	require.Equal(t, isInt, v.isInt, "%q", literal)
	inRange := math.Abs(want) <= maxSafe
	if isInt {
		n, ok := new(big.Int).SetString(literal, 10)
		require.True(t, ok)
		inRange = n.CmpAbs(big.NewInt(maxSafe)) <= 0
	}
	require.Equal(t, inRange, v.inRange, "%q", literal)
}

var numberSeeds = []string{
	"0", "-0", "1", "-1", "0.1", "00", "01", "-01", "0.0", "1.", ".5", "1e5", "1E+5", "1e-5", "1e", "1e+", "-", "", "+1", "1_0", "0x10", "0x1p-2", "inf", "NaN", "Infinity",
	"9007199254740992", "9007199254740993", "9007199254740993.0", "123456789012345", "1234567890123456", "0.123456789012345", "12345678.1234567", "999999999999999", "0.00000000000001",
	"1e400", "-1e400", "1e-400", "5e-324", "1 ", " 1", "1.5.5", "1.e5", "0e0", "00.5", "-00", "123456.78901234", "4.35", "0.3", "٣", "1\n",
}

// Numbers are what strconv makes of them, and nothing else is one.
// Source: audiences.md AU-19, events.md EV-P5.
func TestNumbers(t *testing.T) {
	for _, literal := range numberSeeds {
		checkNumber(t, literal)
	}
	for n := range 3000 { // the fast way, with the point everywhere
		digits := strconv.Itoa(n * 7919)
		for i := 1; i < len(digits); i++ {
			checkNumber(t, digits[:i]+"."+digits[i:])
		}
	}
}

func FuzzNumber(f *testing.F) {
	for _, literal := range numberSeeds {
		f.Add(literal)
	}
	f.Fuzz(checkNumber)
}
