package decision

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Attributes in events. Source: events.md section 6.

// sentAttributes is what a conversion sends of a user's attributes.
func sentAttributes(t *testing.T, members object, set func(u *User)) string {
	t.Helper()
	f := file(object{
		"attributes": array{object{"id": "501", "key": "plan"}, object{"id": "502", "key": "age"}},
		"events":     array{object{"id": "9", "key": "e", "experimentIds": array{}}},
	})
	for k, v := range members {
		f[k] = v
	}
	p := compiled(t, f)
	u := userOf(t, p, "u", "")
	set(u)
	c, ok := p.Conversion("e", nil)
	require.True(t, ok)
	raw := c.AppendVisitor(nil, u, testUUID, 1)
	require.Equal(t, string(raw), string(c.AppendVisitor(nil, u, testUUID, 1)), "rendered once, the same again")
	visitor := parsed(t, string(raw)).(object)
	return string(marshal(t, visitor["attributes"]))
}

func attribute(id, key, value string) string {
	return `{"entity_id":"` + id + `","key":"` + key + `","type":"custom","value":` + value + `}`
}

// Source: EV-22, EV-23, EV-24, the table.
func TestEventAttributes(t *testing.T) {
	for _, row := range []struct {
		key   string
		value Value
		want  string
	}{
		{"plan", String(""), attribute("501", "plan", `""`)},
		{"plan", String("é<"), attribute("501", "plan", `"é\u003c"`)},
		{"plan", Bool(false), attribute("501", "plan", `false`)},
		{"age", Number("9007199254740992"), attribute("502", "age", "9007199254740992")},
		{"age", Number("-9007199254740992"), attribute("502", "age", "-9007199254740992")},
		{"age", Int(maxSafe), attribute("502", "age", "9007199254740992")},
		{"age", Number("9007199254740993"), ""},
		{"age", Number("-9007199254740993"), ""},
		{"age", Int(maxSafe + 1), ""},
		{"age", Int(math.MinInt64), ""},
		{"age", Number("9007199254740993.0"), attribute("502", "age", "9007199254740993.0")},
		{"age", Number("9007199254740994.0"), ""},
		{"age", Number("1e400"), ""},
		{"age", Number("1.5"), attribute("502", "age", "1.5")},
		{"age", Number("31"), attribute("502", "age", "31")},
		{"age", Number("31.0"), attribute("502", "age", "31.0")}, // numbers keep their form
		{"age", Float(31), attribute("502", "age", "31.0")},
		{"age", Int(31), attribute("502", "age", "31")},
		{"age", Number("-0"), attribute("502", "age", "-0")},
		{"age", Number("1E2"), attribute("502", "age", "1E2")},
		{"age", Float(math.NaN()), ""}, {"age", Float(math.Inf(1)), ""}, {"age", Float(math.Inf(-1)), ""},
		{"plan", Null(), ""}, {"plan", Composite("[1]"), ""}, {"plan", Composite("{}"), ""}, {"age", Number("NaN"), ""}, {"age", Number("x"), ""},
		{"nope", Int(1), ""}, {"", Int(1), ""}, {"PLAN", Int(1), ""}, {"501", Int(1), ""},
		{"$opt_x", Int(1), attribute("$opt_x", "$opt_x", "1")}, {"$opt_", Int(1), attribute("$opt_", "$opt_", "1")}, {"$opt", Int(1), ""}, {"$OPT_x", Int(1), ""},
		{"$opt_x", Null(), ""}, {"$opt_x", Composite("[]"), ""}, {"$opt_x", Number("9007199254740993"), ""},
		{"$opt_bucketing_id", String("b"), attribute("$opt_bucketing_id", "$opt_bucketing_id", `"b"`)},
		{"$opt_bucketing_id", Int(5), attribute("$opt_bucketing_id", "$opt_bucketing_id", `5`)},
		{"$opt_user_agent", String("Mozilla"), attribute("$opt_user_agent", "$opt_user_agent", `"Mozilla"`)},
	} {
		got := sentAttributes(t, nil, func(u *User) { u.SetAttribute(row.key, row.value) })
		require.Equal(t, "["+row.want+"]", got, "%s", row.key)
		got = sentAttributes(t, nil, func(u *User) { // the later value of a key counts
			u.SetAttribute(row.key, String("before"))
			u.appendVisitorHead(nil)
			u.SetAttribute(row.key, row.value)
		})
		require.Equal(t, "["+row.want+"]", got, "%s set again", row.key)
	}
	require.Equal(t, "[]", sentAttributes(t, nil, func(*User) {}))
	require.Equal(t, "["+attribute("502", "age", "1")+","+attribute("501", "plan", "true")+","+attribute("$opt_a", "$opt_a", "1")+"]",
		sentAttributes(t, nil, func(u *User) {
			u.SetAttribute("$opt_a", Int(1))
			u.SetAttribute("nope", Int(1))
			u.SetAttribute("age", Int(1))
			u.SetAttribute("plan", Bool(true))
		}))
}

// Reserved keys that are declared take the declared id; what only a condition
// names isn't sent. Source: EV-22, EV-24.
func TestReservedAttributes(t *testing.T) {
	declared := object{"attributes": array{object{"id": "7", "key": "$opt_bucketing_id"}, object{"id": "8", "key": "$opt_x"}, object{"id": "", "key": "$opt_y"}, object{"id": "9", "key": ""}}}
	require.Equal(t, "["+attribute("7", "$opt_bucketing_id", `"b"`)+"]", sentAttributes(t, declared, func(u *User) { u.SetAttribute("$opt_bucketing_id", String("b")) }))
	require.Equal(t, "["+attribute("8", "$opt_x", `1`)+"]", sentAttributes(t, declared, func(u *User) { u.SetAttribute("$opt_x", Int(1)) }))
	require.Equal(t, "[]", sentAttributes(t, declared, func(u *User) { u.SetAttribute("$opt_y", Int(1)) }), "declared without an id")
	require.Equal(t, "["+attribute("9", "", `1`)+"]", sentAttributes(t, declared, func(u *User) { u.SetAttribute("", Int(1)) }), "a declared key may be empty")

	asked := object{"typedAudiences": array{object{"id": "1", "name": "a", "conditions": array{
		object{"name": "only_asked", "type": "custom_attribute", "match": "exists"}, object{"name": "$opt_asked", "type": "custom_attribute", "match": "exists"},
	}}}}
	require.Equal(t, "[]", sentAttributes(t, asked, func(u *User) { u.SetAttribute("only_asked", Int(1)) }))
	require.Equal(t, "["+attribute("$opt_asked", "$opt_asked", "1")+"]", sentAttributes(t, asked, func(u *User) { u.SetAttribute("$opt_asked", Int(1)) }))
}

// Source: EV-25, row 21.
func TestBotFiltering(t *testing.T) {
	bot := func(value string) string { return attribute("$opt_bot_filtering", "$opt_bot_filtering", value) }
	nothing := func(*User) {}
	for value, want := range map[string]string{"true": "[" + bot("true") + "]", "false": "[" + bot("false") + "]", "null": "[]"} {
		require.Equal(t, want, sentAttributes(t, object{"botFiltering": parsed(t, value)}, nothing), value)
	}
	require.Equal(t, "[]", sentAttributes(t, nil, nothing), "absent")
	require.Equal(t, "["+bot(`"mine"`)+","+bot("true")+"]", sentAttributes(t, object{"botFiltering": true}, func(u *User) {
		u.SetAttribute("$opt_bot_filtering", String("mine"))
	}), "last, and twice if the caller gave it")
	declared := object{"botFiltering": true, "attributes": array{object{"id": "5", "key": "$opt_bot_filtering"}}}
	require.Equal(t, "["+attribute("5", "$opt_bot_filtering", "false")+","+bot("true")+"]", sentAttributes(t, declared, func(u *User) {
		u.SetAttribute("$opt_bot_filtering", Bool(false))
	}))
}
