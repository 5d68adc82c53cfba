package client

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Source: legacy-api.md LG-22.
func TestListenerIDs(t *testing.T) {
	c, _ := newClient(t, worked(t))
	n := c.Notifications()
	var calls []string
	listener := func(name string) func(DecisionNotification) {
		return func(DecisionNotification) { calls = append(calls, name) }
	}
	decide := func() string {
		calls = nil
		c.NewUser("u", nil).Decide(t.Context(), "main")
		return fmt.Sprint(calls)
	}
	require.Equal(t, -1, n.OnDecision(nil))
	require.Equal(t, -1, n.OnTrack(nil))
	require.Equal(t, -1, n.OnLogEvent(nil))
	require.Equal(t, -1, n.OnConfigUpdate(nil))
	require.Equal(t, -1, n.OnActivate(nil))
	require.Equal(t, 1, n.OnDecision(listener("a")))
	require.Equal(t, 2, n.OnTrack(func(TrackNotification) {}))
	require.Equal(t, 3, n.OnDecision(listener("b")))
	require.Equal(t, 4, n.OnActivate(func(ActivateNotification) { calls = append(calls, "activate") }))
	require.Equal(t, 5, n.OnDecision(listener("c")))
	require.Equal(t, "[activate a b c]", decide(), "in order; activate before decision")
	require.True(t, n.Remove(3))
	require.False(t, n.Remove(3))
	require.False(t, n.Remove(99))
	require.Equal(t, "[activate a c]", decide())
	require.Equal(t, 6, n.OnDecision(listener("d")), "ids are not used again")
	n.Clear(ActivateType)
	n.Clear(99)
	require.Equal(t, "[a c d]", decide())
	n.ClearAll()
	require.Equal(t, "[]", decide())
	require.Equal(t, 7, n.OnDecision(listener("e")))
	require.Equal(t, "[e]", decide())
}

// Source: legacy-api.md LG-23.
func TestListenersThatPanicOrChangeListeners(t *testing.T) {
	book, errs := &logBook{}, &errorLog{}
	c, _ := newClient(t, worked(t), WithLogger(book.logger()), WithErrorHandler(errs.handle))
	n := c.Notifications()
	var calls []string
	n.OnDecision(func(DecisionNotification) { panic("user u-17 did it") })
	var added int
	n.OnDecision(func(DecisionNotification) {
		calls = append(calls, "second")
		if added == 0 {
			added = n.OnDecision(func(DecisionNotification) { calls = append(calls, "added") })
		} else {
			n.Remove(added)
		}
	})
	u := c.NewUser("u8", nil)
	require.Equal(t, "eoff", u.Decide(t.Context(), "main").VariationKey)
	require.Equal(t, []string{"second"}, calls)
	u.Decide(t.Context(), "main")
	require.Equal(t, []string{"second", "second", "added"}, calls)
	u.Decide(t.Context(), "main")
	require.Len(t, calls, 4)
	var panicked *PanicError
	require.Len(t, errs.all(), 3)
	require.ErrorAs(t, errs.all()[0], &panicked)
	require.Equal(t, "user u-17 did it", panicked.Value)
	require.NotEmpty(t, panicked.Stack)
	require.NotContains(t, book.String(), "u-17")
	require.Contains(t, book.String(), "notification listener panicked with a string")

	// A handler that panics harms nobody either.
	c, _ = newClient(t, worked(t), WithErrorHandler(func(error) { panic("handler") }))
	c.Notifications().OnDecision(func(DecisionNotification) { panic("listener") })
	c.NewUser("u", nil).Decide(t.Context(), "main")
}

// Source: decide.md DC-41, DC-40a, events.md EV-10; the recorded calls hold most of
// the payloads.
func TestFlagNotification(t *testing.T) {
	c, _ := newClient(t, worked(t))
	var told []DecisionNotification
	c.Notifications().OnDecision(func(d DecisionNotification) { told = append(told, d) })
	u := c.NewUser("u1", map[string]any{"plan": "pro"})
	d := u.Decide(t.Context(), "main", DisableDecisionEvent, IncludeReasons)
	require.Len(t, told, 1)
	require.Equal(t, DecisionFlag, told[0].Type)
	require.Equal(t, map[string]any{"plan": "pro"}, told[0].Attributes)
	require.Equal(t, &FlagInfo{
		FlagKey: "main", Enabled: true, Variables: d.Variables, VariationKey: "a", RuleKey: "exp", Reasons: d.Reasons,
		ExperimentID: "611", VariationID: "6111",
	}, told[0].Info)
	require.NotEmpty(t, d.Reasons)
	u.DecideAll(t.Context(), EnabledFlagsOnly)
	require.Len(t, told, 5, "also for what isn't listed")

	told = nil
	c.NewUser("u", nil).Decide(t.Context(), "empty")
	require.JSONEq(t, `{"type":"flag","user_id":"u","attributes":{},"decision_info":{"flag_key":"empty","enabled":false,"variables":{},
		"variation_key":null,"rule_key":null,"reasons":[],"decision_event_dispatched":true,"experiment_id":null,"variation_id":null}}`, string(text(t, told[0])))
}

// A bypassed holdout has an impression of its own, told of before the decision's.
func TestActivateOfBypassedHoldout(t *testing.T) {
	datafile := worked(t)
	holdout := datafile["holdouts"].([]any)[0].(map[string]any)
	holdout["excludeTargetedDeliveries"] = true
	c, events := newClient(t, datafile)
	var told []string
	c.Notifications().OnActivate(func(a ActivateNotification) {
		variation := "-"
		if a.Variation != nil {
			variation = a.Variation.ID + "/" + a.Variation.Key
		}
		require.True(t, json.Valid(a.Event.Params))
		told = append(told, a.Experiment.ID+"/"+a.Experiment.Key+" "+variation)
	})
	c.Notifications().OnDecision(func(d DecisionNotification) { told = append(told, d.Info.(*FlagInfo).FlagKey) })
	u := c.NewUser("u1", nil)
	u.SetQualifiedSegments([]string{"vip"})
	u.DecideForKeys(t.Context(), []string{"main", "empty"})
	require.Equal(t, []string{
		"901/global_h 9011/held", "712/d2 7121/d2on", "main", "901/global_h 9011/held", "/ -", "empty",
	}, told)
	require.Len(t, events.take(t), 4)
}

// Two clients may share their listeners. Source: pages.md I-9.
func TestSharedNotifications(t *testing.T) {
	n := NewNotifications()
	told := 0
	n.OnDecision(func(DecisionNotification) { told++ })
	for range 2 {
		c, _ := newClient(t, worked(t), WithNotifications(n))
		require.Same(t, n, c.Notifications())
		c.NewUser("u", nil).Decide(t.Context(), "main")
	}
	require.Equal(t, 2, told)
}

// A listener's panic goes to the client that told of something, not to whichever was
// there first and may be closed.
func TestSharedNotificationsPanic(t *testing.T) {
	n := NewNotifications()
	n.OnDecision(func(DecisionNotification) { panic("listener") })
	first, second := &errorLog{}, &errorLog{}
	a, _ := newClient(t, worked(t), WithNotifications(n), WithErrorHandler(first.handle))
	b, _ := newClient(t, worked(t), WithNotifications(n), WithErrorHandler(second.handle))
	told := func() string { return fmt.Sprint(len(first.all()), " ", len(second.all())) }
	b.NewUser("u", nil).Decide(t.Context(), "main")
	require.Equal(t, "0 1", told())
	a.NewUser("u", nil).Decide(t.Context(), "main")
	require.Equal(t, "1 1", told())
	require.NoError(t, a.Close(t.Context()))
	b.NewUser("u", nil).Decide(t.Context(), "main")
	require.Equal(t, "1 2", told())
}
