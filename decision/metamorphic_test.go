package decision

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// metamorphic_test.go asks what must not change when something else does.

// Random trees agree with the reference. FuzzConditions looks further.
func TestConditionsAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	for range 3000 {
		checkConditions(t, &source{rand: rnd.IntN})
	}
}

// Extending the last range only adds users; nobody changes variation.
// Source: bucketing.md section 8.1.
func TestExtendingTheLastRange(t *testing.T) {
	build := func(end int) *Project { return ranges(t, traffic(fmt.Sprintf("11:3000, 12:%d", end))) }
	before, after := build(5000), build(8000)
	gained := 0
	for i := range 3000 {
		id := fmt.Sprintf("user-%d", i)
		was, is := decided(userOf(t, before, id, ""), "f", 0, nil), decided(userOf(t, after, id, ""), "f", 0, nil)
		if was == "- - rollout" {
			if is != was {
				require.Equal(t, "b r1 feature-test", is)
				gained++
			}
			continue
		}
		require.Equal(t, was, is, id)
	}
	require.InDelta(t, 900, gained, 120, "3000 of 10000 buckets")
}

// Buckets are evenly filled, and those of one user for two rules independent.
// Source: bucketing.md section 8.3.
func TestIndependentBuckets(t *testing.T) {
	both := [2][2]int{}
	for i := range 20000 {
		id := fmt.Sprintf("user-%d", i)
		both[Bucket(Hash(id+"101"))/5000][Bucket(Hash(id+"102"))/5000]++
	}
	for _, row := range both {
		for _, n := range row {
			require.InDelta(t, 5000, n, 300, "%v", both)
		}
	}
}

// With one bucketing id, the user id decides only what lists and profiles say.
// Source: bucketing.md section 8.2.
func TestBucketingIDAlone(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	for _, v := range corpusUsers(t, 200) {
		p := ps.get(t, v.Datafile)
		var a, b User
		v.user(&a, p)
		a.SetAttribute(bucketingKey, String("shared"))
		v.UserID = "somebody else entirely"
		v.user(&b, p)
		b.SetAttribute(bucketingKey, String("shared"))
		if p.listedUsers.find(a.id) != none {
			continue
		}
		require.Equal(t, outcomes(p, &a), outcomes(p, &b), v.ID)
	}
}

func outcomes(p *Project, u *User) []string {
	var out []string
	for _, d := range p.DecideAll(nil, nil, u, 0, nil) { //nolint:staticcheck // no service takes part, so no context is used
		out = append(out, d.FlagKey()+": "+outcome(&d)+" "+d.VariablesJSON())
	}
	return out
}

// The allocation of a group that isn't exclusive means nothing.
// Source: bucketing.md section 8.4.
func TestOverlappingGroupAllocation(t *testing.T) {
	for _, allocation := range []string{"", "1:10000", "2:10000", ":10000", "zz:1"} {
		for _, user := range []string{"u", "v", "w", ""} {
			require.Equal(t, "v1 r1 feature-test", decided(userOf(t, grouped(t, "overlapping", allocation), user, ""), "f", 0, nil))
		}
	}
}

// The order in which attributes come changes nothing but their order in events;
// nor does an attribute nobody knows.
func TestAttributeOrder(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, v := range corpusUsers(t, 300) {
		p := ps.get(t, v.Datafile)
		var u User
		v.user(&u, p)
		want := outcomes(p, &u)
		event := canonicalVisitor(t, &u)

		keys := make([]string, 0, len(v.Attributes))
		for k := range v.Attributes {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		rnd.Shuffle(len(keys), func(i, k int) { keys[i], keys[k] = keys[k], keys[i] })
		rest := v
		rest.Attributes = nil
		rest.user(&u, p)
		u.SetAttribute("nobody knows this", String("x"))
		for _, k := range keys {
			u.SetAttribute(k, String("to be replaced"))
		}
		p.DecideAll(t.Context(), nil, &u, 0, nil) // remembers audiences that the next values change
		for _, k := range keys {
			u.SetAttribute(k, valueOf(v.Attributes[k]))
		}
		require.Equal(t, want, outcomes(p, &u), v.ID)
		require.Equal(t, event, canonicalVisitor(t, &u), v.ID)
	}
}

func canonicalVisitor(t *testing.T, u *User) any {
	im := Impression{fragment: -1}
	return canonicalVisitors([]json.RawMessage{im.AppendVisitor(nil, u, testUUID, 1)}, false)
}

// An unrelated flag, anywhere, changes no other decision.
func TestUnrelatedFlag(t *testing.T) {
	for _, name := range []string{"g01.json", "g07.json", "t01.json"} {
		raw := readTestdata(t, "vectors/datafiles/"+name)
		p, err := Compile(raw)
		require.NoError(t, err)
		f := parsed(t, string(raw)).(object)
		other := flagOf("unrelated", "unrelated", "unrelated")
		f["featureFlags"] = append(array{other}, f["featureFlags"].(array)...)
		f["experiments"] = append(array{ruleOf("unrelated", object{"type": "fr", "audienceIds": array{"unrelated"}})}, f["experiments"].(array)...)
		rollouts, _ := f["rollouts"].(array)
		f["rollouts"] = append(array{rolloutOf("unrelated", ruleOf("unrelated2", nil))}, rollouts...)
		typed, _ := f["typedAudiences"].(array)
		f["typedAudiences"] = append(array{object{"id": "unrelated", "name": "x", "conditions": object{"name": "new", "type": "custom_attribute", "match": "exists"}}}, typed...)
		wider := compiled(t, f)
		for _, v := range corpusUsers(t, 100) {
			var a, b User
			v.user(&a, p)
			v.user(&b, wider)
			require.Equal(t, outcomes(p, &a), outcomes(wider, &b)[1:], "%s: %s", name, v.ID)
		}
	}
}

// Every way to decide says the same: one by one, by keys, all, explained, with a
// fresh user or a used one.
func TestWaysToDecide(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	var used User
	n := 0
	for _, v := range corpusUsers(t, 600) {
		p := ps.get(t, v.Datafile)
		if n%3 == 0 {
			p = ps.get(t, "g30.json")
		}
		n++
		v.user(&used, p)
		options := v.options()
		all := p.DecideAll(t.Context(), nil, &used, options, nil)
		require.Len(t, all, p.NumFlags())

		var fresh User
		v.user(&fresh, p)
		require.Equal(t, all, p.DecideAll(t.Context(), nil, &fresh, options, nil), v.ID)
		keys := make([]string, p.NumFlags())
		for i := range keys {
			keys[i] = p.FlagKey(i)
		}
		require.Equal(t, all, p.DecideKeys(t.Context(), nil, &fresh, keys, options, nil), v.ID)
		slices.Reverse(keys)
		reversed := p.DecideKeys(t.Context(), nil, &fresh, keys, options, nil)
		slices.Reverse(reversed)
		require.Equal(t, all, reversed, v.ID)
		for i := range all {
			one := p.Decide(t.Context(), &used, all[i].FlagKey(), options, nil)
			e := p.Explain(t.Context(), &used, all[i].FlagKey(), options, nil)
			require.Equal(t, one, e.Decision, "%s %s", v.ID, all[i].FlagKey())
			one.isHidden = all[i].isHidden // ENABLED_FLAGS_ONLY is a matter of lists
			require.Equal(t, all[i], one, "%s %s", v.ID, all[i].FlagKey())
		}
	}
}

// Two decisions of one fragment are the same in all that is rendered of them.
func TestFragments(t *testing.T) {
	ps := &projects{folder: vectorFolder}
	for _, name := range []string{"g30.json", "g01.json", "t01.json", "t03.json"} {
		p := ps.get(t, name)
		seen := map[int]string{}
		for _, v := range corpusUsers(t, 1000) {
			var u User
			v.user(&u, p)
			for _, d := range p.DecideAll(t.Context(), nil, &u, 0, nil) {
				i := d.Fragment()
				if i < 0 {
					require.NotEmpty(t, u.forced, "only what is forced has none here")
					continue
				}
				require.Less(t, i, p.NumFragments())
				text := d.FlagKey() + outcome(&d) + d.VariablesJSON() + d.VariationID() + d.ExperimentID()
				if was, ok := seen[i]; ok {
					require.Equal(t, was, text)
				}
				seen[i] = text
			}
		}
		require.Greater(t, len(seen), p.NumFlags()/2)
	}
}

// A User goes from project to project, and its marks stay its own for 2^32 users.
func TestUserReuse(t *testing.T) {
	p := compiled(t, file(object{
		"typedAudiences": array{object{"id": "1", "name": "a", "conditions": array{"and",
			object{"name": "plan", "type": "custom_attribute", "match": "exists"},
			object{"name": "x", "type": "third_party_dimension", "match": "qualified", "value": "vip"}}}},
		"experiments":  array{ruleOf("1", object{"audienceIds": array{"1"}, "forcedVariations": object{"listed": "v1"}})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	var u User
	in := func() bool { return decided(&u, "f", 0, nil) == "v1 r1 feature-test" }
	for range 4 {
		u.Reset(p, "u") // the first of this project: its marks are those that come round
		u.SetAttribute("plan", Bool(true))
		u.SetSegments([]string{"vip"})
		require.True(t, in())
		u.epoch, u.memoEpoch = ^uint32(0)-1, ^uint32(0)-1
		for range 4 {
			u.Reset(p, "u")
			require.False(t, in(), "nothing of the user before")
			u.SetAttribute("plan", Bool(true))
			require.False(t, in())
			u.SetSegments([]string{"vip"})
			require.True(t, in())
			u.SetSegments(nil)
			require.False(t, in())
			u.SetSegments([]string{"vip", "other"})
			u.SetForcedDecision("f", "", "nope")
			require.True(t, in())
			u.SetSegments([]string{})
			segments, known := u.Segments()
			require.True(t, known && len(segments) == 0, "none is not unknown: row 83")
			u.SetSegments([]string{"vip", "other"})
			segments, known = u.Segments()
			require.True(t, known)
			require.Len(t, segments, 2)
			u.Reset(p, "listed")
			_, known = u.Segments()
			require.False(t, known)
			require.True(t, in())
		}
		other := compiled(t, file(nil))
		u.Reset(other, "u")
		require.Empty(t, other.DecideAll(t.Context(), nil, &u, 0, nil))
	}
	require.PanicsWithValue(t, "BUG: user of another project", func() { p.Decide(t.Context(), &u, "f", 0, nil) })
}
