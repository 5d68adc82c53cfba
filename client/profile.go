package client

import (
	"context"
	"fmt"

	"sortition/decision"
)

// reportedProfiles tells the error handler what a user profile service fails with;
// decisions go on without. Source: decide.md DC-35, DC-36.
type reportedProfiles struct {
	service decision.ProfileService
	client  *Client
}

// Lookup asks the service.
func (r reportedProfiles) Lookup(ctx context.Context, userID string) (*decision.Profile, error) {
	p, err := r.service.Lookup(ctx, userID)
	if err != nil {
		r.client.fail(fmt.Errorf("look up user profile: %w", err))
	}
	return p, err
}

// Save asks the service.
func (r reportedProfiles) Save(ctx context.Context, profile *decision.Profile) error {
	err := r.service.Save(ctx, profile)
	if err != nil {
		r.client.fail(fmt.Errorf("save user profile: %w", err))
	}
	return err
}
