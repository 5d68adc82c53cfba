package decision

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// referenceSplit and referenceCompare follow audiences.md 6.1 and 6.2 step by
// step, in other words than the engine does.

func isASCIINumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

type referenceVersion struct {
	parts      []string
	pre, build bool
}

func referenceSplit(v string) (referenceVersion, bool) {
	if strings.Contains(v, " ") {
		return referenceVersion{}, false
	}
	p, b := strings.Index(v, "-"), strings.Index(v, "+")
	r := referenceVersion{pre: p >= 0 && (b < 0 || p < b), build: b >= 0 && (p < 0 || b < p)}
	head := v
	var tail []string
	if r.pre {
		head, tail = v[:p], []string{v[p+1:]}
	} else if r.build {
		head, tail = v[:b], []string{v[b+1:]}
	}
	r.parts = strings.Split(head, ".")
	if len(r.parts) > 3 {
		return r, false
	}
	for _, part := range r.parts {
		if !isASCIINumber(part) {
			return r, false
		}
	}
	r.parts = append(r.parts, tail...)
	return r, true
}

func referenceCompare(t, u referenceVersion) int {
	for i, tp := range t.parts {
		if i >= len(u.parts) {
			if t.pre || t.build {
				return 1
			}
			return -1
		}
		up := u.parts[i]
		if !isASCIINumber(up) {
			if up < tp {
				if t.pre && !u.pre {
					return 1
				}
				return -1
			}
			if up > tp {
				if !t.pre && u.pre {
					return -1
				}
				return 1
			}
			continue
		}
		if !isASCIINumber(tp) {
			return -1
		}
		a, _ := new(big.Int).SetString(up, 10)
		b, _ := new(big.Int).SetString(tp, 10)
		if c := a.Cmp(b); c != 0 {
			return c
		}
	}
	if u.pre && !t.pre {
		return -1
	}
	return 0
}

// Source: audiences.md section 6.3, both columns.
func TestVersions(t *testing.T) {
	for _, row := range strings.Split(strings.TrimSpace(`
		2 = 2, 2 = 2.0, 2 = 2.9.9, 2 > 3.0, 2 < 1.9, 2.0 < 2, 2.0.0 < 2, 2.1 = 2.1.5, 2.1.5 < 2.1, 2.0 = 02.0, 2.0.1 > 2.0.10,
		2.0 < 2.0.0-beta, 2.0.0 < 2.0.0-beta, 2.0.0-beta > 2.0.0, 2.0.0-beta > 2, 2.1.0-beta > 2.1, 2.0.0-beta > 2.0.1, 2.0.0-beta < 1.9.9,
		2.0.0 < 2.0.0-, 2.0.0 = 2.0.0+, 2.0.0-beta < 2.0.0-1,
		2.0.0-beta < 2.0.0-alpha, 2.0.0-alpha > 2.0.0-beta, 2.0.0-beta > 2.0.0-beta.1, 2.0.0-beta.1 < 2.0.0-beta, 2.0.0-beta.10 > 2.0.0-beta.9,
		2.0.0-9 > 2.0.0-10, 2.0.0-beta < 2.0.0-Beta, 2.0.0-1 > 2.0.0-beta, 2.0.0 = 2.0.0+build, 2.0 = 2.0.0+build, 2.0.0+build > 2.0.0,
		2.0.0+b1 > 2.0.0+b2, 2.0.0-beta+b1 > 2.0.0-beta+b2, 2.0.0-beta = 2.0.0+beta, 2.0.0+beta < 2.0.0-beta, 2.0.0- > 2.0.0, 2-beta < 2.0.0,
		2.0.0+a+b = 2.0.0+a+b, 2.0.0--x = 2.0.0--x, 2.0.0-é = 2.0.0-é,
		99999999999999999999999999 > 100000000000000000000000000, 2.00000000000000000000000000001 = 2.1, 2.1 = 2.0000000000000000000000000000000001,
		1-a > 1-aa, 1.0 < 1-0`), ",") {
		f := strings.Fields(row)
		require.Len(t, f, 3, row)
		want := map[string]int{"<": -1, "=": 0, ">": 1}[f[1]]
		target, ok := parseSemver(f[0])
		require.True(t, ok, row)
		user, ok := parseSemver(f[2])
		require.True(t, ok, row)
		require.Equal(t, want, compareSemver(&target, &user), row)

		for match, want := range map[string]bool{
			"semver_eq": want == 0, "semver_gt": want > 0, "semver_ge": want >= 0, "semver_lt": want < 0, "semver_le": want <= 0,
		} {
			condition := fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q,"value":%q}`, match, f[0])
			got := audienceOf(t, condition, func(u *User) { u.SetAttribute("p", String(f[2])) })
			require.Equal(t, letter(truthOf(want)), got, "%s: %s", match, row)
		}
	}
}

// Malformed on either side: unknown. Source: audiences.md 6.1, 6.3, AU-21, AU-P3;
// sdk-differences.md rows 43, 44, 47.
func TestMalformedVersions(t *testing.T) {
	for _, v := range []string{
		"", "a", "2.", ".2", "2..0", "2.0.0.0", "2 .0", " 2", "2.0.0 ", "-2", "+2", "-", "+", "2.a", "v2.0", "2.0.0-be ta", "2,0", "1e3", "2.0.0.0-a",
		"٢", "２.0", "²", "2\t", "2\n.0", ".", "2.-1", "0x2",
	} {
		for _, match := range []string{"semver_eq", "semver_gt", "semver_ge", "semver_lt", "semver_le"} {
			text := string(marshal(t, v))
			condition := fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q,"value":%s}`, match, text)
			require.Equal(t, "N", audienceOf(t, condition, func(u *User) { u.SetAttribute("p", String("2.0")) }), "target %q", v)
			condition = fmt.Sprintf(`{"name":"p","type":"custom_attribute","match":%q,"value":"2.0"}`, match)
			require.Equal(t, "N", audienceOf(t, condition, func(u *User) { u.SetAttribute("p", String(v)) }), "user %q", v)
		}
	}
	for _, v := range []string{"2.0.0-\t", "2-", "2+", "0.0.0", "2.0.0-be\u00a0ta", "2-a.b.c.d"} { // only U+0020 is tested
		_, ok := parseSemver(v)
		require.True(t, ok, "%q", v)
	}
}

func FuzzSemver(f *testing.F) {
	for _, seed := range [][2]string{
		{"2", "2.0"}, {"2.0.0-beta", "2.0.0"}, {"2.0.0+b1", "2.0.0-beta+b2"}, {"2.0.0-", "2.0.0-1"}, {"02.0", "2.000"}, {"", " 2"},
		{"1.0.0-1", "1.0.0-a"}, {"99999999999999999999", "1"}, {"2-beta", "2.0.0"}, {"٢", "2"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, target, user string) {
		wantT, wantOK := referenceSplit(target)
		gotT, ok := parseSemver(target)
		if ok != wantOK {
			t.Fatalf("%q: well-formed %v, want %v", target, ok, wantOK)
		}
		wantU, wantUserOK := referenceSplit(user)
		gotU, userOK := parseSemver(user)
		if userOK != wantUserOK {
			t.Fatalf("%q: well-formed %v, want %v", user, userOK, wantUserOK)
		}
		if !ok || !userOK {
			return
		}
		if got, want := compareSemver(&gotT, &gotU), referenceCompare(wantT, wantU); got != want {
			t.Fatalf("%q against target %q: %d, want %d", user, target, got, want)
		}
	})
}
