package decision

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/murmur3"
)

// Raw hashes. Source: bucketing.md section 1.
func TestHash(t *testing.T) {
	for key, want := range map[string]struct {
		hash   uint32
		bucket int
	}{
		"": {1364076727, 3175}, "a": {1485495528, 3458}, "ab": {3087506246, 7188}, "abc": {2859854335, 6658},
		"abcd": {2616542610, 6092}, "abcde": {4289507611, 9987}, "abcdefgh": {889817786, 2071},
		"hello, world": {1868346089, 4350}, "\x00": {0, 0},
	} {
		require.Equal(t, want.hash, Hash(key), "%q", key)
		require.Equal(t, want.bucket, Bucket(want.hash), "%q", key)
	}
}

// Bucketing keys. Source: bucketing.md section 7.
func TestBucketingKeys(t *testing.T) {
	long := "a " + strings.Repeat("very ", 15) + "long ppd string"
	for i, row := range []struct {
		id, salt string
		hash     uint32
		bucket   int
	}{
		{"ppid1", "1886780721", 2256854705, 5254},
		{"ppid2", "1886780721", 1846603100, 4299},
		{"ppid2", "1886780722", 1045634806, 2434},
		{"ppid3", "1886780721", 2336050061, 5439},
		{long, "1886780721", 2632290317, 6128},
		{"", "1", 2724904126, 6344},
		{"u", "1", 2032562409, 4732},
		{"u", "42", 1157290969, 2694},
		{"abc", "1", 2684677298, 6250},
		{"user_1", "9300000000001", 1546888713, 3601},
		{"user_2", "9300000000001", 459357020, 1069},
		{"user_3", "9300000000001", 1884407695, 4387},
		{"11111", "9300000000001", 3294127852, 7669},
		{"é", "1", 1579364899, 3677},
		{"日本語", "42", 3215622858, 7486},
		{"😀", "42", 3212500166, 7479},
		{"user with space", "42", 1212055524, 2822},
		{"USER", "42", 2078833013, 4840},
		{"user", "42", 602737820, 1403},
		{"u4", "42", 3625042800, 8440},
		{"user6187", "1886780721", 153835, 0},
		{"user1842", "1886780721", 618493, 1},
		{"user3808", "1886780721", 2147210882, 4999},
		{"user22025", "1886780721", 2147610940, 5000},
		{"user2867", "1886780721", 4294932123, 9999},
		{"test_user", "111127", 1966234008, 4577},
		{"test_user", "19228", 3014756927, 7019},
	} {
		st := newHashState(row.id)
		require.Equal(t, row.hash, st.sum(row.salt), "row %d", i+1)
		require.Equal(t, row.hash, Hash(row.id+row.salt), "row %d", i+1)
		require.Equal(t, row.bucket, Bucket(row.hash), "row %d", i+1)
	}
}

// The integer form equals the formula of the SDKs on both sides of every
// boundary, and at random. Source: bucketing.md BK-2, BK-3.
func TestBucketFormula(t *testing.T) {
	check := func(h uint32) {
		require.Equal(t, int(math.Floor(float64(h)/4294967296*10000)), Bucket(h), "hash %d", h)
	}
	for b := range uint64(numBuckets) {
		first := uint32((b<<32 + numBuckets - 1) / numBuckets) // the smallest hash of bucket b
		require.EqualValues(t, b, Bucket(first))
		check(first)
		if b > 0 {
			require.EqualValues(t, b-1, Bucket(first-1))
			check(first - 1)
		}
	}
	check(math.MaxUint32)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		check(rnd.Uint32())
	}
}

// Every split of a key into user and salt hashes as the whole.
func TestHashState(t *testing.T) {
	key := "0123456789é😀abcdefgh\x00\xff!"
	for n := range len(key) + 1 {
		want := murmur3.SeedStringSum32(1, key[:n])
		require.Equal(t, want, Hash(key[:n]))
		for cut := range n + 1 {
			st := newHashState(key[:cut])
			require.Equal(t, want, st.sum(key[cut:n]), "%d of %d", cut, n)
			require.Equal(t, want, st.sum(key[cut:n]), "a second sum of the same state")
		}
	}
}

func FuzzHash(f *testing.F) {
	for _, seed := range [][2]string{{"", ""}, {"a", ""}, {"ppid1", "1886780721"}, {"é", "😀"}, {"\x00\x00\x00", "\xff\xff\xff\xff"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, salt string) {
		st := newHashState(id)
		want := murmur3.SeedStringSum32(1, id+salt)
		if got := st.sum(salt); got != want {
			t.Fatalf("hash of %q and %q is %d, not %d", id, salt, got, want)
		}
	})
}

// ranges is a project whose flag "f" has experiment 1 with variations a (11) and
// b (12) and this allocation. User "u" has bucket 4732 there.
func ranges(t *testing.T, allocation array) *Project {
	return compiled(t, file(object{
		"experiments": array{ruleOf("1", object{
			"variations":        array{object{"id": "11", "key": "a"}, object{"id": "12", "key": "b"}},
			"trafficAllocation": allocation,
		})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
}

// Source: bucketing.md section 4, observed table.
func TestRanges(t *testing.T) {
	require.Equal(t, 4732, Bucket(Hash("u1")))
	const none = "- - rollout"
	for allocation, want := range map[string]string{
		"11:4732": none, "11:4733": "a r1 feature-test", "11:0, 12:10000": "b r1 feature-test",
		":5000, 12:10000": none, "zz:5000, 12:10000": none, "12:10000, 11:5000": "b r1 feature-test",
		"11:3000, 12:4000": none, "11:20000": "a r1 feature-test", "11:-5, 12:10000": "b r1 feature-test", "": none,
		"12:4733, 11:4733": "b r1 feature-test", "12:3000, 11:2000, 11:10000": "a r1 feature-test", // BK-8
		"11:10000.0": "a r1 feature-test", "12:99999999999999999999": "b r1 feature-test", "12:-99999999999999999999, 11:10000": "a r1 feature-test",
	} {
		u := userOf(t, ranges(t, traffic(allocation)), "u", "")
		require.Equal(t, want, decided(u, "f", 0, nil), allocation)
	}
}

// Where the schema step doesn't look, an entry without an end is skipped, and one
// without an entity gives nobody anything. Source: bucketing.md BK-8, BK-9.
func TestRangesWithoutMembers(t *testing.T) {
	for text, want := range map[string]string{
		`[{"entityId":"zz"},{"entityId":"11","endOfRange":10000}]`:                    "v1 r1 rollout",
		`[{"entityId":"zz","endOfRange":null},{"entityId":"11","endOfRange":10000}]`:  "v1 r1 rollout",
		`[{"endOfRange":10000},{"entityId":"11","endOfRange":10000}]`:                 "- - rollout",
		`[{"entityId":null,"endOfRange":10000},{"entityId":"11","endOfRange":10000}]`: "- - rollout",
		`[{"entityId":"11","endOfRange":0},{"entityId":"11","endOfRange":1e4}]`:       "v1 r1 rollout",
	} {
		p := compiled(t, file(object{
			"rollouts":     array{rolloutOf("R", ruleOf("1", object{"trafficAllocation": parsed(t, text)}))},
			"featureFlags": array{flagOf("f", "R")},
		}))
		require.Equal(t, want, decided(userOf(t, p, "u", ""), "f", 0, nil), text)
	}
}

// An entity is looked up among the rule's own variations. Source: BK-10.
func TestForeignEntity(t *testing.T) {
	p := compiled(t, file(object{
		"experiments":  array{ruleOf("1", object{"trafficAllocation": traffic("21:10000")}), ruleOf("2", nil)},
		"featureFlags": array{flagOf("f", "", "1"), flagOf("g", "", "1", "2")},
	}))
	u := userOf(t, p, "u", "")
	require.Equal(t, "- - rollout", decided(u, "f", 0, nil))
	require.Equal(t, "v2 r2 feature-test", decided(u, "g", 0, nil))
}

// A variation whose id is "" can't be allocated: "" marks free traffic.
func TestEmptyEntity(t *testing.T) {
	p := compiled(t, file(object{
		"experiments": array{ruleOf("1", object{
			"variations": array{object{"id": "", "key": "a"}}, "trafficAllocation": traffic(":10000"),
		})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	require.Equal(t, "- - rollout", decided(userOf(t, p, "u", ""), "f", 0, nil))
}

// A blank rule key doesn't matter. Source: bucketing.md BK-P1.
func TestBlankRuleKey(t *testing.T) {
	for _, key := range []string{"", " ", "\t"} {
		p := compiled(t, file(object{
			"experiments":  array{ruleOf("1", object{"key": key})},
			"featureFlags": array{flagOf("f", "", "1")},
		}))
		u := userOf(t, p, "u", "")
		require.Equal(t, "v1 "+key+" feature-test", decided(u, "f", 0, nil))
		u.SetForcedDecision("f", "", "nope") // "" is the flag as a whole, never this rule
		require.Equal(t, "v1 "+key+" feature-test", decided(u, "f", 0, nil))
		require.Len(t, p.Warnings(), 1)
	}
}

// Source: bucketing.md section 3, BK-5, BK-6.
func TestBucketingID(t *testing.T) {
	// u falls into a, x into b; "" has bucket 6344, " u " another.
	p := ranges(t, traffic("11:4733, 12:10000"))
	for _, row := range []struct{ attribute, hashed string }{
		{"", "u"}, {"null", "u"}, {`"x"`, "x"}, {`""`, ""}, {`" u "`, " u "},
		{"5", "u"}, {"5.5", "u"}, {"true", "u"}, {`["a"]`, "u"}, {`{"a":1}`, "u"},
	} {
		attributes := ""
		if row.attribute != "" {
			attributes = `{"$opt_bucketing_id":` + row.attribute + `}`
		}
		u := userOf(t, p, "u", attributes)
		want := "b r1 feature-test"
		if Bucket(Hash(row.hashed+"1")) < 4733 {
			want = "a r1 feature-test"
		}
		require.Equal(t, want, decided(u, "f", 0, nil), row.attribute)
		e := p.Explain(t.Context(), u, "f", 0, nil)
		require.Equal(t, row.hashed, e.BucketingID)
		d := p.Decide(t.Context(), u, "f", IncludeReasons, nil)
		isOdd := row.attribute != "" && row.attribute != "null" && row.attribute[0] != '"'
		require.Equal(t, isOdd, d.Reasons()[0].Code == ReasonBucketingIDIgnored, row.attribute)
		require.Equal(t, isOdd, len(e.Notes) > 0, "explained: %s", row.attribute)
	}
	// Only the hash: the whitelist knows the user id.
	p = compiled(t, file(object{
		"experiments":  array{ruleOf("1", object{"forcedVariations": object{"u": "v1"}, "trafficAllocation": array{}})},
		"featureFlags": array{flagOf("f", "", "1")},
	}))
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", `{"$opt_bucketing_id":"x"}`), "f", 0, nil))
	require.Equal(t, "- - rollout", decided(userOf(t, p, "x", `{"$opt_bucketing_id":"u"}`), "f", 0, nil))
}

// grouped is a project with experiments 1 and 2 in group G, for everybody.
func grouped(t *testing.T, policy, allocation string) *Project {
	return compiled(t, file(object{
		"groups": array{object{
			"id": "G", "policy": policy, "trafficAllocation": traffic(allocation),
			"experiments": array{ruleOf("1", object{"forcedVariations": object{"w": "v1"}}), ruleOf("2", nil)},
		}},
		"featureFlags": array{flagOf("f", "", "1", "2")},
	}))
}

// Source: bucketing.md section 5, observed table; BK-12.
func TestGroups(t *testing.T) {
	const none = "- - rollout"
	for allocation, want := range map[string]string{
		"1:10000": "v1 r1 feature-test", "1:0, 2:10000": "v2 r2 feature-test", "": none, ":10000": none, "zz:10000": none,
	} {
		for _, user := range []string{"u", "", "é", "u17"} {
			require.Equal(t, want, decided(userOf(t, grouped(t, "random", allocation), user, ""), "f", 0, nil), allocation)
			for _, policy := range []string{"overlapping", "Random", "", "RANDOM", "anything"} {
				require.Equal(t, "v1 r1 feature-test", decided(userOf(t, grouped(t, policy, allocation), user, ""), "f", 0, nil))
			}
		}
	}
}

// Who has a variation already, or fails the audience, doesn't reach the group
// step. Source: bucketing.md BK-13.
func TestGroupIsNotReached(t *testing.T) {
	p := grouped(t, "random", "")
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "w", ""), "f", 0, nil), "whitelist")
	u := userOf(t, p, "u", "")
	u.SetForcedDecision("f", "r2", "v1")
	require.Equal(t, "v1 r2 feature-test", decided(u, "f", 0, nil), "forced decision")
	env := &Env{Profiles: &fakeProfiles{stored: &Profile{UserID: "u", Entries: map[string]ProfileEntry{"2": {VariationID: "21"}}}}}
	require.Equal(t, "v2 r2 feature-test", decided(userOf(t, p, "u", ""), "f", 0, env), "profile")
	env = &Env{Forced: forcedVariations{"u/1": "11"}}
	require.Equal(t, "v1 r1 feature-test", decided(userOf(t, p, "u", ""), "f", 0, env), "forced variation")

	d := p.Decide(t.Context(), userOf(t, p, "u", ""), "f", IncludeReasons, nil)
	require.Contains(t, codes(d.Reasons()), "group_no_rule")
	f := file(object{
		"groups": array{object{
			"id": "G", "policy": "random", "trafficAllocation": traffic("1:10000"),
			"experiments": array{ruleOf("1", object{"audienceIds": array{"41"}})},
		}},
		"featureFlags": array{flagOf("f", "", "1")},
	})
	p = compiled(t, f)
	d = p.Decide(t.Context(), userOf(t, p, "u", ""), "f", IncludeReasons, nil)
	require.Equal(t, []string{"audience_not_met", "no_delivery_rules", "no_rule_matched"}, codes(d.Reasons()))
}

// forcedVariations answers for "user/experiment".
type forcedVariations map[string]string

func (f forcedVariations) ForcedVariation(userID, experimentID string) (string, bool) {
	id, ok := f[userID+"/"+experimentID]
	return id, ok
}
