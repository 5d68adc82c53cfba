package client

import (
	"context"
	"fmt"
	"time"

	"sortition/decision"
)

// Decide decides one flag. There is always a decision: what goes wrong is in its
// Err and Reasons. [EnabledFlagsOnly] has no effect here. Options are added to the
// client's default ones. ctx is for the user profile service, predictions and an
// event queue that is waited for; a decision needs none of these by itself.
// Source: decide.md section 2, DC-6, DC-9, pages.md U-3.
func (u *UserContext) Decide(ctx context.Context, flagKey string, options ...DecideOptions) Decision {
	c, state := u.client, u.state.Load()
	in := c.configuration()
	if in == nil {
		c.logNotReady("decide")
		return u.notReady(flagKey, state)
	}
	w := c.worker()
	defer c.release(w)
	state.prepare(&w.user, in.project, u.id)
	w.decisions = append(w.decisions[:0], in.project.Decide(ctx, &w.user, flagKey, c.decideOptions(options), &c.env))
	copied := c.userOf(u.id, state)
	c.report(ctx, in, w, copied)
	return decisionOf(&w.decisions[0], copied)
}

// DecideForKeys decides several flags, in the order of the keys. An unknown key
// has an entry with an error decision; a key given twice is decided and reported
// twice, and has one entry. While the client isn't ready the result is empty. There
// is one lookup in the user profile service and at most one save.
// Source: decide.md section 2, DC-5, DC-7, DC-P8, pages.md U-3.
func (u *UserContext) DecideForKeys(ctx context.Context, flagKeys []string, options ...DecideOptions) Decisions {
	return u.decideMany(ctx, "decide for keys", options, func(p *decision.Project, w *worker, o DecideOptions) []decision.Decision {
		return p.DecideKeys(ctx, w.decisions[:0], &w.user, flagKeys, o, &u.client.env)
	})
}

// DecideAll decides every flag, in datafile order; otherwise it is
// [UserContext.DecideForKeys]. Source: decide.md section 2, pages.md U-3.
func (u *UserContext) DecideAll(ctx context.Context, options ...DecideOptions) Decisions {
	return u.decideMany(ctx, "decide all", options, func(p *decision.Project, w *worker, o DecideOptions) []decision.Decision {
		return p.DecideAll(ctx, w.decisions[:0], &w.user, o, &u.client.env)
	})
}

func (u *UserContext) decideMany(ctx context.Context, what string, options []DecideOptions, decide func(*decision.Project, *worker, DecideOptions) []decision.Decision) Decisions {
	c, state := u.client, u.state.Load()
	in := c.configuration()
	if in == nil {
		c.logNotReady(what)
		return Decisions{}
	}
	w := c.worker()
	defer c.release(w)
	state.prepare(&w.user, in.project, u.id)
	w.decisions = decide(in.project, w, c.decideOptions(options))
	copied := c.userOf(u.id, state)
	c.report(ctx, in, w, copied)
	out := Decisions{list: make([]Decision, 0, len(w.decisions))}
	for i := range w.decisions {
		if w.decisions[i].IsListed() {
			out.list = append(out.list, decisionOf(&w.decisions[i], copied))
		}
	}
	return out.indexed()
}

// decideOptions joins the call's options with the default ones. Source: decide.md DC-9.
func (c *Client) decideOptions(given []DecideOptions) DecideOptions {
	all := c.settings.decideOptions
	for _, o := range given {
		all |= o
	}
	return all
}

func decisionOf(d *decision.Decision, u *UserContext) Decision {
	out := Decision{Enabled: d.Enabled(), Variables: Variables{d.VariablesJSON()}, FlagKey: d.FlagKey(), User: u}
	out.VariationKey, _ = d.VariationKey()
	out.RuleKey, _ = d.RuleKey()
	out.Reasons = reasonsOf(d)
	switch d.Err() {
	case decision.NoError:
	case decision.FlagNotFound:
		out.Err = fmt.Errorf("decide %q: %w", out.FlagKey, ErrFlagNotFound)
	case decision.CMABFetchFailed:
		out.Err = fmt.Errorf("decide %q: %w", out.FlagKey, ErrPrediction)
	}
	return out
}

func reasonsOf(d *decision.Decision) []string {
	reasons := d.Reasons()
	if len(reasons) == 0 {
		return nil
	}
	out := make([]string, len(reasons))
	for i := range reasons {
		out[i] = reasons[i].String()
	}
	return out
}

// notReady is the decision without a datafile. Source: decide.md section 9, DC-39.
func (u *UserContext) notReady(flagKey string, state *userState) Decision {
	return Decision{
		FlagKey: flagKey, User: u.client.userOf(u.id, state), Reasons: []string{ErrNotReady.Error()},
		Err: fmt.Errorf("decide %q: %w", flagKey, ErrNotReady),
	}
}

// report sends the impressions of a call, then tells the listeners, flag by flag.
// Source: decide.md DC-5, section 10; legacy-api.md LG-24.
func (c *Client) report(ctx context.Context, in *installed, w *worker, u *UserContext) {
	w.impressions = decision.AppendImpressions(w.impressions[:0], w.decisions)
	events := w.impressionEvents(in, time.Now())
	if len(events) > 0 {
		if err := c.process(ctx, events); err != nil {
			c.eventsFailed("send impressions", err)
		}
	}
	if !c.notifications.hasAny(ActivateType, DecisionType) {
		return
	}
	next := 0 // impression
	for i := range w.decisions {
		d := &w.decisions[i]
		if d.Err() != decision.NoError {
			continue
		}
		count := len(decision.AppendImpressions(nil, w.decisions[i:i+1]))
		for ; count > 0; count-- {
			c.notifyActivate(&w.impressions[next], d, u.id, u.state.Load().attributeMap, events[next])
			next++
		}
		c.decided(func() DecisionNotification {
			return DecisionNotification{Type: DecisionFlag, UserID: u.id, Attributes: u.Attributes(), Info: flagInfoOf(d)}
		})
	}
}

// impressionEvents renders the impressions as events.
func (w *worker) impressionEvents(in *installed, now time.Time) []UserEvent {
	w.startEvents()
	at := now.UnixMilli()
	for i := range w.impressions {
		uuid := w.uuids.next()
		w.text = w.impressions[i].AppendVisitor(w.text, &w.user, uuid, at)
		w.add(in, uuid)
	}
	return w.finishEvents()
}

// process hands events to the processor.
func (c *Client) process(ctx context.Context, events []UserEvent) error {
	if c.life.isClosed() {
		return fmt.Errorf("client: %w", ErrClosed)
	}
	return c.processor.Process(ctx, events)
}
