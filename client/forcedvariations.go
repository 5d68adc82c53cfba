package client

import (
	"fmt"
	"log/slog"
	"sync"
)

// forcedVariations are the legacy forced variations: user id to experiment id to
// variation id. They outlive datafile updates. Source: legacy-api.md section 5, LG-P3.
type forcedVariations struct {
	mu     sync.RWMutex // guards byUser
	byUser map[string]map[string]string
}

func newForcedVariations() *forcedVariations {
	return &forcedVariations{byUser: map[string]map[string]string{}}
}

// ForcedVariation answers the engine.
func (f *forcedVariations) ForcedVariation(userID, experimentID string) (variationID string, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	variationID, ok = f.byUser[userID][experimentID]
	return variationID, ok
}

func (f *forcedVariations) set(userID, experimentID, variationID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byUser[userID] == nil {
		f.byUser[userID] = map[string]string{}
	}
	f.byUser[userID][experimentID] = variationID
}

func (f *forcedVariations) remove(userID, experimentID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byUser[userID], experimentID)
	if len(f.byUser[userID]) == 0 {
		delete(f.byUser, userID)
	}
}

// SetForcedVariation puts a user into a variation of an experiment, in every call
// that comes to evaluate it while it runs, for as long as the client lives. It
// holds one entry a user and experiment, in memory. The error wraps [ErrNotReady],
// [ErrEmptyKey], [ErrExperimentNotFound] or [ErrVariationNotFound]; an earlier entry
// then stays. Source: legacy-api.md section 5.
func (c *Client) SetForcedVariation(experimentKey, userID, variationKey string) error {
	const call = "set forced variation"
	in, err := c.legacy(call, experimentKey)
	if err != nil {
		return err
	}
	info, ok := in.project.ExperimentInfo(experimentKey)
	if !ok {
		return c.legacyFault(call, experimentKey, ErrExperimentNotFound)
	}
	id, ok := in.project.ExperimentVariationID(experimentKey, variationKey)
	if !ok || variationKey == "" {
		return c.legacyFault(call, experimentKey, ErrVariationNotFound)
	}
	c.forced.set(userID, info.ID, id)
	return nil
}

// RemoveForcedVariation takes a forced variation back: the SDKs'
// set_forced_variation with null. It is no error if there was none.
func (c *Client) RemoveForcedVariation(experimentKey, userID string) error {
	const call = "remove forced variation"
	in, err := c.legacy(call, experimentKey)
	if err != nil {
		return err
	}
	info, ok := in.project.ExperimentInfo(experimentKey)
	if !ok {
		return c.legacyFault(call, experimentKey, ErrExperimentNotFound)
	}
	c.forced.remove(userID, info.ID)
	return nil
}

// ForcedVariation returns the key of the variation that was set for a user; false if
// none was, or the datafile has lost experiment or variation since.
func (c *Client) ForcedVariation(experimentKey, userID string) (variationKey string, ok bool) {
	in, err := c.legacy("get forced variation", experimentKey)
	if err != nil {
		return "", false
	}
	info, ok := in.project.ExperimentInfo(experimentKey)
	if !ok {
		return "", false
	}
	id, ok := c.forced.ForcedVariation(userID, info.ID)
	if !ok {
		return "", false
	}
	return in.project.ExperimentVariationKey(experimentKey, id)
}

// legacy begins a legacy call: its key must not be empty, and there must be a
// datafile. Source: legacy-api.md LG-1, LG-2.
func (c *Client) legacy(call string, keys ...string) (*installed, error) {
	for _, key := range keys {
		if key == "" {
			return nil, c.legacyFault(call, "", ErrEmptyKey)
		}
	}
	in := c.configuration()
	if in == nil {
		c.logNotReady(call)
		return nil, fmt.Errorf("%s: %w", call, ErrNotReady)
	}
	return in, nil
}

func (c *Client) legacyFault(call, key string, err error) error {
	c.log.Error("legacy call failed", slog.String("call", call), slog.String("key", key), slog.Any("error", err))
	return fmt.Errorf("%s: %q: %w", call, key, err)
}
