package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"sortition/client"
	"sortition/decision"
	"sortition/profiles"
)

// newShop is a client for the examples that are about users.
func newShop(options ...client.Option) *client.Client {
	c, err := client.New(append([]client.Option{shop, offline}, options...)...)
	must(err)
	return c
}

// A user has an id, and optionally attributes, which are copied. (pages.md U-1)
func ExampleClient_NewUser() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	attributes := map[string]any{"country": "DE", "age": 31, "logged_in": true, "cart_value": 129.5, "email_domain": nil}
	user := c.NewUser("u-17", attributes)
	attributes["age"] = 99
	fmt.Println(user.ID(), user.Attributes()["age"])
	// Output: u-17 31
}

// (pages.md U-2)
func ExampleUserContext_SetAttribute() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	user.SetAttribute("plan", "pro")
	user.SetAttribute("age", json.Number("31"))
	copied := user.Attributes()
	delete(copied, "plan")
	fmt.Println(user.Attributes())
	// Output: map[age:31 plan:pro]
}

// One flag. (pages.md U-3)
func ExampleUserContext_Decide() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", map[string]any{"plan": "pro", "logged_in": true})

	d := user.Decide(ctx, "checkout_flow", client.IncludeReasons)
	fmt.Println("flag:", d.FlagKey)
	fmt.Println("variation:", d.VariationKey)
	fmt.Println("enabled:", d.Enabled)
	fmt.Println("rule:", d.RuleKey)
	fmt.Println("variables:", d.Variables)
	fmt.Println("user:", d.User.ID(), d.User.Attributes())
	for _, reason := range d.Reasons {
		fmt.Println("-", reason)
	}

	d = user.Decide(ctx, "no_such_flag")
	fmt.Println(errors.Is(d.Err, client.ErrFlagNotFound), d.Reasons)
	// Output:
	// flag: checkout_flow
	// variation: one_page
	// enabled: true
	// rule: checkout_one_page
	// variables: {"layout":"one_page","max_steps":1,"express_pay":true}
	// user: u-17 map[logged_in:true plan:pro]
	// - The user is not in the traffic of holdout "quarter_holdout".
	// - The user is not in the traffic of holdout "checkout_holdout".
	// - The user is in the audience of rule "checkout_one_page".
	// - The user is in variation "one_page" of rule "checkout_one_page".
	// true [No flag was found for key "no_such_flag".]
}

// Typed variables, one by one, as a map, or in a struct. (pages.md U-3)
func ExampleVariables() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	v := c.NewUser("u-17", nil).Decide(ctx, "product_recommendations").Variables
	slots, ok := v.Get("slots")
	fmt.Printf("%v %v (%T)\n", slots, ok, slots)
	fmt.Println(v.Map()["model"])
	var settings struct {
		Model     string
		Diversity float64
		Blend     map[string]int
	}
	must(v.Unmarshal(&settings))
	fmt.Printf("%+v\n", settings)
	// Output:
	// 4 true (int64)
	// bestsellers
	// {Model:bestsellers Diversity:0.25 Blend:map[recent:1]}
}

// Several flags, in one call: one lookup and one save of the user's profile.
// (pages.md U-3)
func ExampleUserContext_DecideForKeys() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", map[string]any{"plan": "pro"})
	decisions := user.DecideForKeys(ctx, []string{"gift_wrapping", "dark_mode"})
	for key, d := range decisions.All() {
		fmt.Println(key, d.VariationKey, d.Enabled)
	}
	d, ok := decisions.Get("dark_mode")
	fmt.Println(ok, d.RuleKey)
	// Output:
	// gift_wrapping off false
	// dark_mode on_light_accent true
	// true default-rollout-dark-mode
}

// All flags, in datafile order; here those that are on. (pages.md U-3)
func ExampleUserContext_DecideAll() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	decisions := c.NewUser("u-17", map[string]any{"plan": "pro"}).DecideAll(ctx, client.EnabledFlagsOnly)
	for key, d := range decisions.All() {
		fmt.Println(key, d.VariationKey)
	}
	// Output:
	// checkout_flow express
	// search_ranking keyword_for_all
	// loyalty_banner plain
	// product_recommendations similar_items
	// dark_mode on_light_accent
	// price_display gross_for_all
}

// Conversions. An unknown key is logged, and an error. (pages.md U-4)
func ExampleUserContext_TrackEvent() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	err := user.TrackEvent(ctx, "purchase", map[string]any{"revenue": 4200, "value": 12.5, "category": "shoes"})
	fmt.Println(err)
	err = user.TrackEvent(ctx, "no_such_event", nil)
	fmt.Println(errors.Is(err, client.ErrEventNotFound), err)
	// Output:
	// <nil>
	// true track event "no_such_event": no event of that key
}

// What is forced, and what it is forced to, are values that can be compared.
// (pages.md U-5)
func ExampleDecisionContext() {
	flag := client.DecisionContext{FlagKey: "checkout_flow"}
	rule := client.DecisionContext{FlagKey: "checkout_flow", RuleKey: "checkout_one_page"}
	forced := map[client.DecisionContext]client.ForcedDecision{flag: {VariationKey: "one_page"}, rule: {VariationKey: "control"}}
	fmt.Println(flag == rule, forced[client.DecisionContext{FlagKey: "checkout_flow"}])
	// Output: false {one_page}
}

// Set, get, remove. (pages.md U-6)
func ExampleUserContext_SetForcedDecision() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	flag := client.DecisionContext{FlagKey: "checkout_flow"}
	rule := client.DecisionContext{FlagKey: "checkout_flow", RuleKey: "checkout_one_page"}

	fmt.Println("set:", user.SetForcedDecision(rule, client.ForcedDecision{VariationKey: "control"}))
	fmt.Println("decided:", user.Decide(ctx, "checkout_flow").VariationKey)
	fmt.Println("set:", user.SetForcedDecision(flag, client.ForcedDecision{VariationKey: "one_page"}))
	fmt.Println("decided:", user.Decide(ctx, "checkout_flow").VariationKey)
	forced, ok := user.ForcedDecision(flag)
	fmt.Println("get:", forced.VariationKey, ok)
	fmt.Println("remove:", user.RemoveForcedDecision(flag), user.RemoveForcedDecision(flag))
	fmt.Println("remove all:", user.RemoveAllForcedDecisions())
	_, ok = user.ForcedDecision(rule)
	fmt.Println("get:", ok)
	// Output:
	// set: true
	// decided: control
	// set: true
	// decided: one_page
	// get: one_page true
	// remove: true false
	// remove all: true
	// get: false
}

// Segments of a service of one's own. (pages.md U-7, U-9)
func ExampleUserContext_SetQualifiedSegments() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	_, known := user.QualifiedSegments()
	fmt.Println("known:", known, "- vip:", user.IsQualifiedFor("vip"))

	user.SetQualifiedSegments([]string{"vip"})
	segments, known := user.QualifiedSegments()
	fmt.Println("known:", known, segments, "- vip:", user.IsQualifiedFor("vip"))
	// Output:
	// known: false - vip: false
	// known: true [vip] - vip: true
}

// crm finds segments in a service of one's own.
type crm struct{}

func (crm) FetchSegments(_ context.Context, q client.SegmentQuery) ([]string, error) {
	if q.UserID == "u-17" {
		return q.Segments[:1], nil
	}
	return nil, errors.New("the CRM is down")
}

// Fetching, and waiting for it. The error says what went wrong. (pages.md U-8, O-6, O-9)
func ExampleUserContext_FetchQualifiedSegments() {
	ctx := context.Background()
	c := newShop(client.WithSegmentFetcher(crm{}))
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	fmt.Println(user.FetchQualifiedSegments(ctx))
	fmt.Println(user.QualifiedSegments())
	other := c.NewUser("u-18", nil)
	fmt.Println(other.FetchQualifiedSegments(ctx, client.ResetSegmentsCache))
	fmt.Println(other.QualifiedSegments())
	// Output:
	// <nil>
	// [vip] true
	// fetch segments: the CRM is down
	// [] false
}

// Fetching in the background: a callback when it is done, and a handle to wait.
// (pages.md U-8)
func ExampleUserContext_FetchQualifiedSegmentsAsync() {
	ctx := context.Background()
	c := newShop(client.WithSegmentFetcher(crm{}))
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	fetch := user.FetchQualifiedSegmentsAsync(ctx, func(err error) {
		segments, _ := user.QualifiedSegments()
		fmt.Println("called back:", err, segments)
	})
	fmt.Println("waited:", fetch.Wait(ctx))
	// Output:
	// called back: <nil> [vip]
	// waited: <nil>
}

// Asking for segments without ODP. (pages.md U-10, O-1)
func ExampleWithoutODP() {
	ctx := context.Background()
	c := newShop(client.WithoutODP())
	defer c.Close(ctx)
	err := c.NewUser("u-17", nil).FetchQualifiedSegments(ctx)
	fmt.Println(errors.Is(err, client.ErrODPDisabled), err)
	// Output: true fetch segments: ODP is not enabled
}

// Sticky bucketing with one of the services of package profiles. (pages.md I-7)
func ExampleWithUserProfileService() {
	ctx := context.Background()
	memory, err := profiles.NewMemory(100_000)
	must(err)
	c := newShop(client.WithUserProfileService(memory))
	defer c.Close(ctx)
	c.NewUser("u-17", map[string]any{"country": "DE"}).DecideAll(ctx)
	kept, err := memory.Lookup(ctx, "u-17")
	must(err)
	fmt.Println("users:", memory.Len(), "- experiments:", len(kept.Entries))
	// Output:
	// users: 1 - experiments: 2
}

// ownProfiles is a service of one's own.
type ownProfiles map[string]*decision.Profile

func (o ownProfiles) Lookup(_ context.Context, userID string) (*decision.Profile, error) {
	fmt.Println("lookup")
	return o[userID], nil
}

func (o ownProfiles) Save(_ context.Context, p *decision.Profile) error {
	fmt.Println("save")
	o[p.UserID] = p
	return nil
}

// A service of one's own: one lookup and at most one save a call, whatever the
// number of flags. (pages.md I-7)
func ExampleWithUserProfileService_own() {
	ctx := context.Background()
	c := newShop(client.WithUserProfileService(ownProfiles{}))
	defer c.Close(ctx)
	user := c.NewUser("u-17", nil)
	user.DecideAll(ctx)
	user.DecideAll(ctx)
	// Output:
	// lookup
	// save
	// lookup
}

// Listeners of decisions, conversions and batches. (pages.md I-9)
func ExampleNotifications() {
	ctx := context.Background()
	n := client.NewNotifications()
	id := n.OnDecision(func(d client.DecisionNotification) {
		info, _ := d.Info.(*client.FlagInfo)
		fmt.Println("decision:", d.Type, info.FlagKey, info.VariationKey, info.DecisionEventDispatched)
	})
	n.OnTrack(func(t client.TrackNotification) { fmt.Println("track:", t.EventKey, t.EventTags) })
	n.OnLogEvent(func(e client.LogEvent) { fmt.Println("batch for", e.URL) })
	n.OnConfigUpdate(func(u client.ConfigUpdateNotification) { fmt.Println("datafile:", u.NewRevision) })

	c := newShop(client.WithNotifications(n))
	user := c.NewUser("u-17", nil)
	user.Decide(ctx, "dark_mode")
	n.Remove(id)
	user.Decide(ctx, "dark_mode")
	must(user.TrackEvent(ctx, "signup", map[string]any{"source": "ad"}))
	must(c.Close(ctx))
	// Output:
	// datafile: 42
	// decision: flag dark_mode on_light_accent true
	// track: signup map[source:ad]
	// batch for https://logx.optimizely.com/v1/events
}

// The structured view of the datafile.
func ExampleClient_OptimizelyConfig() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	config := c.OptimizelyConfig()
	flag := config.Features["checkout_flow"]
	fmt.Println("revision", config.Revision, "-", len(config.Features), "flags")
	fmt.Println("max_steps:", flag.Variables["max_steps"].Value)
	for _, rule := range flag.ExperimentRules {
		fmt.Println("experiment:", rule.Key, "-", len(rule.Variations), "variations")
	}
	for _, rule := range flag.DeliveryRules {
		fmt.Println("delivery:", rule.Key)
	}
	// Output:
	// revision 42 - 10 flags
	// max_steps: 4
	// experiment: checkout_one_page - 2 variations
	// delivery: checkout_express_for_members
	// delivery: checkout_express_large_carts
	// delivery: default-rollout-checkout
}

// The calls that are older than Decide.
func ExampleClient_Activate() {
	ctx := context.Background()
	c := newShop()
	defer c.Close(ctx)
	attributes := map[string]any{"plan": "pro", "logged_in": true}
	fmt.Println(c.Activate(ctx, "checkout_one_page", "u-17", attributes))
	fmt.Println(c.IsFeatureEnabled(ctx, "dark_mode", "u-17", nil))
	fmt.Println(c.FeatureVariableInt(ctx, "checkout_flow", "max_steps", "u-17", nil))
	fmt.Println(c.SetForcedVariation("checkout_one_page", "u-17", "control"))
	fmt.Println(c.ForcedVariation("checkout_one_page", "u-17"))
	fmt.Println(c.Variation(ctx, "checkout_one_page", "u-17", attributes))
	_, err := c.Variation(ctx, "no_such_experiment", "u-17", nil)
	fmt.Println(errors.Is(err, client.ErrExperimentNotFound))
	// Output:
	// one_page <nil>
	// true <nil>
	// 4 <nil>
	// <nil>
	// control true
	// control <nil>
	// true
}
