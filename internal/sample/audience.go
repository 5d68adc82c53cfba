package sample

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// addAudiences adds n typed audiences, each of one of the kinds below.
func (m *maker) addAudiences(n int) {
	for i := range n {
		kind := audienceKinds[i%len(audienceKinds)]
		m.project.TypedAudiences = append(m.project.TypedAudiences, audience{
			ID: m.id(), Name: kind.name + "_" + strconv.Itoa(i),
			Conditions: json.RawMessage(kind.conditions(&m.rand)),
		})
	}
}

var audienceKinds = []struct {
	name       string
	conditions func(*random) string
}{
	{"countries", func(r *random) string {
		return anyOf(exact("country", pickWeighted(r, countries)), exact("country", pickWeighted(r, countries)), exact("country", pickWeighted(r, countries)))
	}},
	{"members", func(r *random) string {
		return allOf(anyOf(exact("plan", "plus"), exact("plan", "pro")), leaf("days_since_signup", "gt", strconv.FormatInt(r.between(10, 600), 10)))
	}},
	{"ages", func(r *random) string {
		lo := r.between(18, 50)
		return allOf(leaf("age", "ge", strconv.FormatInt(lo, 10)), leaf("age", "lt", strconv.FormatInt(lo+r.between(5, 25), 10)))
	}},
	{"versions", func(r *random) string {
		return allOf(anyOf(exact("device", "ios"), exact("device", "android")), leaf("app_version", "semver_ge", strconv.Quote(pickWeighted(r, appVersions))))
	}},
	{"segment", func(r *random) string {
		return anyOf(qualified(segmentShares[r.below(uint64(len(segmentShares)))].name))
	}},
	{"lapsed", func(*random) string {
		return allOf(qualified("lapsed_buyer"), `["not",`+anyOf(qualified("vip"))+`]`)
	}},
	{"carts", func(r *random) string {
		return anyOf(leaf("cart_value", "gt", fmt.Sprintf("%d.5", r.between(20, 200))), leaf("logged_in", "exact", "false"))
	}},
	{"testers", func(*random) string {
		return allOf(leaf("beta_tester", "exact", "true"), leaf("email_domain", "substring", `"corp."`), `{"name":"age","type":"custom_attribute","match":"exists"}`)
	}},
}

func anyOf(operands ...string) string { return `["or",` + strings.Join(operands, ",") + `]` }
func allOf(operands ...string) string { return `["and",` + strings.Join(operands, ",") + `]` }

// leaf takes the value as JSON.
func leaf(name, match, value string) string {
	return fmt.Sprintf(`{"name":%q,"type":"custom_attribute","match":%q,"value":%s}`, name, match, value)
}

func exact(name, value string) string { return leaf(name, "exact", strconv.Quote(value)) }

func qualified(segment string) string {
	return fmt.Sprintf(`{"name":"odp.audiences","type":"third_party_dimension","match":"qualified","value":%q}`, segment)
}
