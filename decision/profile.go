package decision

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
)

// A Profile is what a [ProfileService] keeps of a user. Its JSON is
//
//	{"user_id": "…", "experiment_bucket_map": {"<experiment id>": {"variation_id": "…"}}}
//
// Entries read from JSON keep members this package doesn't know until they are
// replaced. Source: decide.md DC-29, DC-31.
type Profile struct {
	UserID  string                  `json:"user_id"`
	Entries map[string]ProfileEntry `json:"experiment_bucket_map"`
}

// A ProfileEntry is the variation a user got in one experiment.
type ProfileEntry struct {
	VariationID string // "" means not sticky
	raw         json.RawMessage
}

// UnmarshalJSON accepts any value; what isn't an object with a text variation_id
// is an entry that isn't sticky. Source: decide.md DC-35, DC-P6.
func (e *ProfileEntry) UnmarshalJSON(data []byte) error {
	var known map[string]any         // not a struct, whose names match in any case
	_ = json.Unmarshal(data, &known) // anything but an object: not sticky
	id, _ := known["variation_id"].(string)
	*e = ProfileEntry{VariationID: id, raw: append(json.RawMessage(nil), data...)}
	return nil
}

// MarshalJSON writes an entry as it was read, or a new one with its variation.
func (e ProfileEntry) MarshalJSON() ([]byte, error) {
	if e.raw != nil {
		return e.raw, nil
	}
	return json.Marshal(map[string]string{"variation_id": e.VariationID})
}

// ParseProfile reads a stored profile. One that lacks its user id or its map, or
// isn't an object, is an error; the SDKs then go on with an empty profile.
// Source: decide.md DC-35.
func ParseProfile(data []byte) (*Profile, error) {
	var members map[string]json.RawMessage // not a struct, whose names match in any case
	if json.Unmarshal(data, &members) != nil || members == nil {
		return nil, errors.New("parse user profile: not an object")
	}
	p := &Profile{}
	var userID *string
	if json.Unmarshal(members["user_id"], &userID) != nil || userID == nil {
		return nil, errors.New("parse user profile: user_id is missing or not text")
	}
	p.UserID = *userID
	entries, ok := members["experiment_bucket_map"]
	if !ok || json.Unmarshal(entries, &p.Entries) != nil {
		return nil, errors.New("parse user profile: experiment_bucket_map is missing or not an object")
	}
	return p, nil
}

// A stickiness is the profile during one call.
type stickiness struct {
	profile *Profile
	added   map[string]ProfileEntry
}

// loadProfile looks the user up, once per call. Source: decide.md DC-30, DC-35.
func loadProfile(ctx context.Context, service ProfileService, userID string) *stickiness {
	p, err := service.Lookup(ctx, userID)
	if err != nil || p == nil {
		p = &Profile{UserID: userID}
	}
	return &stickiness{profile: p}
}

func (s *stickiness) variationID(experimentID string) string {
	if e, ok := s.added[experimentID]; ok {
		return e.VariationID
	}
	return s.profile.Entries[experimentID].VariationID
}

func (s *stickiness) add(experimentID, variationID string) {
	if s.added == nil {
		s.added = map[string]ProfileEntry{}
	}
	s.added[experimentID] = ProfileEntry{VariationID: variationID}
}

// save stores what was added, once per call, if anything was. The profile looked
// up isn't modified; it may be shared. Source: decide.md DC-31, DC-32, DC-36.
func (s *stickiness) save(ctx context.Context, service ProfileService) {
	if len(s.added) == 0 {
		return
	}
	out := &Profile{UserID: s.profile.UserID, Entries: make(map[string]ProfileEntry, len(s.profile.Entries)+len(s.added))}
	maps.Copy(out.Entries, s.profile.Entries)
	maps.Copy(out.Entries, s.added)
	_ = service.Save(ctx, out) // DC-36: the service reports its failures, decisions don't fail
}
