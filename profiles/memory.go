package profiles

import (
	"context"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"sortition/decision"
)

// Memory keeps a bounded number of profiles in this process: those used last. It
// is safe for concurrent use.
type Memory struct {
	profiles *lru.Cache[string, *decision.Profile]
}

var _ decision.ProfileService = (*Memory)(nil)

// NewMemory makes room for a number of users, at least 1. A profile takes some 200
// bytes and 100 more for each experiment.
func NewMemory(users int) (*Memory, error) {
	profiles, err := lru.New[string, *decision.Profile](users)
	if err != nil {
		return nil, fmt.Errorf("user profiles in memory: room for %d users: %w", users, err)
	}
	return &Memory{profiles}, nil
}

// Lookup returns a user's profile, nil if there is none (any more). It is shared and
// must not be changed. The error is nil.
func (m *Memory) Lookup(_ context.Context, userID string) (*decision.Profile, error) {
	p, _ := m.profiles.Get(userID)
	return p, nil
}

// Save keeps a profile, which must not be changed afterwards. The error is nil.
func (m *Memory) Save(_ context.Context, profile *decision.Profile) error {
	m.profiles.Add(profile.UserID, profile)
	return nil
}

// Len is the number of profiles kept.
func (m *Memory) Len() int { return m.profiles.Len() }
