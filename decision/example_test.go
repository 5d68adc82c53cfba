package decision_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sortition/decision"
)

// A datafile with one flag, on for half of the users of the plan "pro".
const datafile = `{"version":"4","accountId":"1","projectId":"2","revision":"7",
 "attributes":[{"id":"31","key":"plan"}],"events":[{"id":"21","key":"purchase","experimentIds":[]}],"groups":[],"audiences":[],
 "typedAudiences":[{"id":"41","name":"pro","conditions":["or",{"name":"plan","type":"custom_attribute","match":"exact","value":"pro"}]}],
 "experiments":[{"id":"51","key":"exp","status":"Running","layerId":"61","audienceIds":["41"],"forcedVariations":{},
  "variations":[{"id":"71","key":"on","featureEnabled":true,"variables":[{"id":"81","value":"7"}]}],
  "trafficAllocation":[{"entityId":"71","endOfRange":5000}]}],
 "featureFlags":[{"id":"91","key":"checkout","experimentIds":["51"],"rolloutId":"",
  "variables":[{"id":"81","key":"size","type":"integer","defaultValue":"1"}]}]}`

// Compile once, share the project; a User belongs to one worker and is reset for
// each user.
func Example() {
	project, err := decision.Compile([]byte(datafile))
	if err != nil {
		fmt.Println(err)
		return
	}
	var user decision.User
	for _, id := range []string{"ann", "bob", "eve"} {
		user.Reset(project, id)
		user.SetAttribute("plan", decision.String("pro"))
		d := project.Decide(context.Background(), &user, "checkout", 0, nil)
		variation, ok := d.VariationKey()
		fmt.Printf("%s: enabled=%t variation=%q decided=%t variables=%s\n", id, d.Enabled(), variation, ok, d.VariablesJSON())
	}
	// Output:
	// ann: enabled=true variation="on" decided=true variables={"size":7}
	// bob: enabled=false variation="" decided=false variables={"size":1}
	// eve: enabled=false variation="" decided=false variables={"size":1}
}

// Every fault of a datafile is reported with its JSON path.
func ExampleCompile() {
	_, err := decision.Compile([]byte(`{"version":"4","accountId":1,"projectId":"2","revision":"7","attributes":[],"events":[],"audiences":[],"groups":[],
	 "experiments":[],"featureFlags":[{"id":"91","key":"checkout","experimentIds":["51"],"rolloutId":"","variables":[]}]}`))
	var invalid *decision.DatafileError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			fmt.Println(fault)
		}
	}
	// Output:
	// $.accountId: must be a string, not a number
	// $.featureFlags[0].experimentIds[0]: names experiment "51", which exists nowhere in the datafile
}

// Decisions are appended to the caller's slice, so that it can be reused.
func ExampleProject_DecideAll() {
	project, err := decision.Compile([]byte(datafile))
	if err != nil {
		fmt.Println(err)
		return
	}
	var user decision.User
	user.Reset(project, "ann")
	user.SetAttribute("plan", decision.String("free"))
	decisions := make([]decision.Decision, 0, project.NumFlags())
	decisions = project.DecideAll(context.Background(), decisions, &user, decision.IncludeReasons, nil)
	for i := range decisions {
		for _, reason := range decisions[i].Reasons() {
			fmt.Println(decisions[i].FlagKey(), reason.Code, reason)
		}
	}
	// Output:
	// checkout audience_not_met The user is not in the audience of rule "exp".
	// checkout no_delivery_rules The flag has no delivery rules.
	// checkout no_rule_matched No rule gave a variation.
}

// An explanation shows the way: the audience leaf by leaf, the bucket, the ranges.
func ExampleProject_Explain() {
	project, err := decision.Compile([]byte(datafile))
	if err != nil {
		fmt.Println(err)
		return
	}
	var user decision.User
	user.Reset(project, "ann")
	user.SetAttribute("plan", decision.String("free"))
	e := project.Explain(context.Background(), &user, "checkout", 0, nil)
	c := e.FirstChange.Condition
	fmt.Printf("rule %s: %s %s %s, seen %s: must be %s\n", e.FirstChange.RuleKey, c.Name, c.Match, c.Want, c.Seen, e.FirstChange.MustBe)

	user.SetAttribute("plan", decision.String("pro"))
	e = project.Explain(context.Background(), &user, "checkout", 0, nil)
	b := e.Steps[0].Bucket
	fmt.Printf("bucket %d of %q is below %d: %s\n", b.Bucket, b.Key, b.Ranges[0].End, *e.VariationKey)
	// Output:
	// rule exp: plan exact "pro", seen "free": must be true
	// bucket 1771 of "ann51" is below 5000: on
}

// Impressions and conversions are values; whoever sends them gives id and time.
func ExampleAppendImpressions() {
	project, err := decision.Compile([]byte(datafile))
	if err != nil {
		fmt.Println(err)
		return
	}
	var user decision.User
	user.Reset(project, "ann")
	user.SetAttribute("plan", decision.String("pro"))
	d := project.Decide(context.Background(), &user, "checkout", 0, nil)

	body := project.AppendBatchHead(nil, decision.Client{Name: "example", Version: "1"})
	for _, impression := range decision.AppendImpressions(nil, []decision.Decision{d}) {
		body = impression.AppendVisitor(body, &user, "00000000-0000-4000-8000-000000000001", 1767225600123)
	}
	if purchase, ok := project.Conversion("purchase", []byte(`{"revenue":4200}`)); ok {
		body = append(body, ',')
		body = purchase.AppendVisitor(body, &user, "00000000-0000-4000-8000-000000000002", 1767225600124)
	}
	body = decision.AppendBatchTail(body)
	fmt.Println(project.EventEndpoint())
	fmt.Println(strings.ReplaceAll(string(body), `{"visitor_id"`, "\n"+`{"visitor_id"`))
	// Output:
	// https://logx.optimizely.com/v1/events
	// {"account_id":"1","project_id":"2","revision":"7","client_name":"example","client_version":"1","anonymize_ip":false,"enrich_decisions":true,"visitors":[
	// {"visitor_id":"ann","attributes":[{"entity_id":"31","key":"plan","type":"custom","value":"pro"}],"snapshots":[{"decisions":[{"campaign_id":"61","experiment_id":"51","variation_id":"71","metadata":{"flag_key":"checkout","rule_key":"exp","rule_type":"feature-test","variation_key":"on","enabled":true}}],"events":[{"entity_id":"61","key":"campaign_activated","uuid":"00000000-0000-4000-8000-000000000001","timestamp":1767225600123}]}]},
	// {"visitor_id":"ann","attributes":[{"entity_id":"31","key":"plan","type":"custom","value":"pro"}],"snapshots":[{"events":[{"entity_id":"21","key":"purchase","uuid":"00000000-0000-4000-8000-000000000002","timestamp":1767225600124,"revenue":4200,"tags":{"revenue":4200}}]}]}]}
}
