package client

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"sortition/decision"
)

// TrackEvent sends a conversion: the user did what the key names. tags may be nil;
// "revenue" (an integer) and "value" (a number) are read by Optimizely. A tag that
// JSON has no form for is left out and logged.
//
// nil means that the event processor has taken the event; with [WithOutbox], that
// it is on disk and will be delivered even if the process ends now. The error wraps
// [ErrNotReady], [ErrEventNotFound] (nothing is sent then), [ErrFull], [ErrClosed]
// or what the processor failed with.
// Source: events.md EV-13 to EV-15, section 7; pages.md U-4.
func (u *UserContext) TrackEvent(ctx context.Context, eventKey string, tags map[string]any) error {
	c, state := u.client, u.state.Load()
	if eventKey == "" {
		c.log.Error("event not tracked: its key is empty")
		return fmt.Errorf("track event: %w", ErrEmptyKey)
	}
	in := c.configuration()
	if in == nil {
		c.logNotReady("track event")
		return fmt.Errorf("track event %q: %w", eventKey, ErrNotReady)
	}
	var rendered []byte
	if tags != nil {
		var dropped int
		if rendered, dropped = appendTags(nil, tags); dropped > 0 {
			c.log.Warn("event tags left out: JSON has no form for them", slog.String("event", eventKey), slog.Int("tags", dropped))
		}
	}
	conversion, ok := in.project.Conversion(eventKey, rendered)
	if !ok {
		c.log.Error("event not tracked: the datafile has none of this key", slog.String("event", eventKey))
		return fmt.Errorf("track event %q: %w", eventKey, ErrEventNotFound)
	}
	w := c.worker()
	defer c.release(w)
	state.prepare(&w.user, in.project, u.id)
	event := w.conversionEvent(in, &conversion, time.Now())
	if err := c.process(ctx, event); err != nil {
		return fmt.Errorf("track event %q: %w", eventKey, err)
	}
	send(c, TrackType, func() TrackNotification {
		return TrackNotification{EventKey: eventKey, UserID: u.id, Attributes: state.attributeMap(), EventTags: tags, Event: SingleEvent(event[0])}
	})
	return nil
}

func (w *worker) conversionEvent(in *installed, conversion *decision.Conversion, now time.Time) []UserEvent {
	w.startEvents()
	uuid := w.uuids.next()
	w.text = conversion.AppendVisitor(w.text, &w.user, uuid, now.UnixMilli())
	w.add(in, uuid)
	return w.finishEvents()
}

// notifyActivate tells of one impression. Source: legacy-api.md LG-24, EV-12.
func (c *Client) notifyActivate(im *decision.Impression, d *decision.Decision, userID string, attributes func() map[string]any, event UserEvent) {
	send(c, ActivateType, func() ActivateNotification {
		n := ActivateNotification{
			Experiment: Entity{ID: im.ExperimentID, Key: im.RuleKey}, UserID: userID, Attributes: attributes(), Event: SingleEvent(event),
		}
		if im.VariationKey != "" {
			n.Variation = &Entity{ID: im.VariationID, Key: im.VariationKey}
			if im.ExperimentID == d.ExperimentID() {
				n.Variation.ID = d.VariationID() // events leave out what isn't all digits
			}
		}
		return n
	})
}
