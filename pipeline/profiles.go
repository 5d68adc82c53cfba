package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unique"

	"sortition/decision"
)

// A ProfileStore keeps sticky profiles for a stream: many in one call, because a round
// trip for each activity would be all that it does. Safe for concurrent use.
type ProfileStore interface {
	// LookupMany returns one profile for each of userIDs, which are distinct, in their
	// order; nil is a user without one, or with one that can't be read. Profiles are
	// shared and not changed. The error says that the store failed, not a profile; it
	// names no user. userIDs is the caller's again afterwards.
	LookupMany(ctx context.Context, userIDs []string) ([]*decision.Profile, error)
	// SaveMany keeps profiles, each in place of an earlier one. They are the store's from
	// then on, the slice is the caller's. After an error any of them may have been kept.
	SaveMany(ctx context.Context, profiles []*decision.Profile) error
}

// A ProfilePolicy says what is done while a ProfileStore fails.
type ProfilePolicy uint8

// The policies.
const (
	// ProfilesHold nacks: the batch comes again until its profiles can be had and kept.
	ProfilesHold ProfilePolicy = iota
	// ProfilesIgnore decides as if nobody had a profile, and goes on if they can't be
	// kept. Who could not be looked up is not saved either, so that what the store has is
	// not replaced by less.
	ProfilesIgnore
)

// ParseProfilePolicy reads "hold" or "ignore".
func ParseProfilePolicy(name string) (ProfilePolicy, error) {
	switch name {
	case "hold":
		return ProfilesHold, nil
	case "ignore":
		return ProfilesIgnore, nil
	}
	return 0, errors.New(`the policy of profiles must be "hold" or "ignore"`)
}

// Profiles is the stickiness of a stream, shared by its workers. A batch asks for the
// profiles of all its users once, before it decides, and keeps those that changed once,
// when its outputs are stored: a batch that failed before has changed nothing. Safe for
// concurrent use.
//
// A user whose activities are worked on in two partitions at once may lose what one of
// them kept, as with the SDKs; by default a user's activities are in one partition.
type Profiles struct {
	store  ProfileStore
	policy ProfilePolicy

	asked, found, saved, lookupFailures, saveFailures atomic.Uint64
}

// NewProfiles keeps the profiles of a stream in a store, which the caller closes.
func NewProfiles(store ProfileStore, policy ProfilePolicy) *Profiles {
	return &Profiles{store: store, policy: policy}
}

// ProfileStats are running totals, those of batches that failed included.
type ProfileStats struct {
	Asked          uint64 // users asked for, once a batch
	Found          uint64 // of these, with a profile
	Saved          uint64 // profiles kept
	LookupFailures uint64 // users whose profile could not be looked up
	SaveFailures   uint64 // profiles that could not be kept, or were not to be
}

// Stats reads the totals. Safe for concurrent use.
func (p *Profiles) Stats() ProfileStats {
	return ProfileStats{
		Asked: p.asked.Load(), Found: p.found.Load(), Saved: p.saved.Load(),
		LookupFailures: p.lookupFailures.Load(), SaveFailures: p.saveFailures.Load(),
	}
}

// batchProfiles are the profiles of one batch's users. A worker has one, and uses it
// for one batch after the other: want for each user, fetch, then as the
// [decision.ProfileService] of its decisions, and flush when the outputs are stored.
// rewind comes before the batch is made again, reset before the next one.
type batchProfiles struct {
	*Profiles
	index   map[string]int // of users
	users   []profileUser
	ids     []string // of users; what LookupMany is handed
	changed []*decision.Profile
	isBlind bool // the lookup failed, and that was ignored
}

type profileUser struct {
	id     string            // our own copy
	stored *decision.Profile // as the store has it; nil: it has none
	now    *decision.Profile // as the batch has it
}

var _ decision.ProfileService = (*batchProfiles)(nil)

func (p *Profiles) newBatch() *batchProfiles {
	return &batchProfiles{Profiles: p, index: map[string]int{}}
}

// reset forgets the batch.
func (b *batchProfiles) reset() {
	const maxKept = 1 << 14 // a giant batch's room is not kept
	if len(b.users) > maxKept {
		b.index, b.users, b.ids, b.changed = map[string]int{}, nil, nil, nil
	}
	clear(b.index)
	clear(b.users)
	clear(b.ids)
	clear(b.changed)
	b.users, b.ids, b.changed, b.isBlind = b.users[:0], b.ids[:0], b.changed[:0], false
}

// want notes a user who will be decided. The id is copied.
func (b *batchProfiles) want(userID string) {
	if _, ok := b.index[userID]; ok {
		return
	}
	id := strings.Clone(userID)
	b.index[id] = len(b.users)
	b.users = append(b.users, profileUser{id: id})
	b.ids = append(b.ids, id)
}

// fetch looks up everybody who is wanted. An error nacks the batch.
func (b *batchProfiles) fetch(ctx context.Context) error {
	if len(b.ids) == 0 {
		return nil
	}
	b.asked.Add(uint64(len(b.ids)))
	profiles, err := b.store.LookupMany(ctx, b.ids)
	if err != nil {
		b.lookupFailures.Add(uint64(len(b.ids)))
		if b.policy == ProfilesIgnore && ctx.Err() == nil {
			b.isBlind = true
			return nil
		}
		return fmt.Errorf("look up the profiles of %d users: %w", len(b.ids), err)
	}
	if len(profiles) != len(b.users) {
		panic("BUG: as many profiles as users were asked for")
	}
	found := uint64(0)
	for i, p := range profiles {
		b.users[i].stored, b.users[i].now = p, p
		if p != nil {
			found++
		}
	}
	b.found.Add(found)
	return nil
}

// rewind takes back what the batch saved.
func (b *batchProfiles) rewind() {
	for i := range b.users {
		b.users[i].now = b.users[i].stored
	}
}

func (b *batchProfiles) user(userID string) *profileUser {
	i, ok := b.index[userID]
	if !ok {
		panic("BUG: a user is decided whose profile wasn't wanted")
	}
	return &b.users[i]
}

// Lookup returns a user's profile as the batch has it.
func (b *batchProfiles) Lookup(_ context.Context, userID string) (*decision.Profile, error) {
	return b.user(userID).now, nil
}

// Save makes a profile the one that later activities of the batch see.
func (b *batchProfiles) Save(_ context.Context, p *decision.Profile) error {
	u := b.user(p.UserID)
	// Its own user id may lie in the decoder's buffer, where the next one's will.
	u.now = &decision.Profile{UserID: u.id, Entries: p.Entries}
	return nil
}

// flush keeps the profiles that changed. It comes after the outputs are stored and
// before the ack; an error nacks the batch.
func (b *batchProfiles) flush(ctx context.Context) error {
	b.changed = b.changed[:0]
	for i := range b.users {
		if u := &b.users[i]; u.now != u.stored {
			b.changed = append(b.changed, owned(u.now))
		}
	}
	n := uint64(len(b.changed))
	if n == 0 {
		return nil
	}
	if b.isBlind {
		b.saveFailures.Add(n)
		return nil
	}
	if err := b.store.SaveMany(ctx, b.changed); err != nil {
		b.saveFailures.Add(n)
		if b.policy == ProfilesIgnore && ctx.Err() == nil {
			return nil
		}
		return fmt.Errorf("save %d profiles: %w", n, err)
	}
	b.saved.Add(n)
	for i := range b.users {
		b.users[i].stored = b.users[i].now
	}
	return nil
}

// owned copies a profile for a store that may keep it for long: the ids of what was
// added lie in the datafile, all of which one of them would keep alive.
func owned(p *decision.Profile) *decision.Profile {
	out := &decision.Profile{UserID: p.UserID, Entries: make(map[string]decision.ProfileEntry, len(p.Entries))}
	for experimentID, entry := range p.Entries {
		entry.VariationID = unique.Make(entry.VariationID).Value()
		out.Entries[unique.Make(experimentID).Value()] = entry
	}
	return out
}
