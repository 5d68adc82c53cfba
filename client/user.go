package client

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"sortition/decision"
)

// A UserContext is a user as the program knows them: id, attributes, forced
// decisions and qualified segments. Make one with [Client.NewUser].
//
// It is safe for concurrent use. What it knows at one moment is one immutable
// value: a decision takes that value and is not affected by what is set later, nor
// is the decision's own UserContext. Source: decide.md section 11, DC-44, DC-46.
type UserContext struct {
	client  *Client
	id      string
	writing sync.Mutex // held by whoever replaces state
	state   atomic.Pointer[userState]
}

// A userState is never changed once it is published.
type userState struct {
	attributes  []attribute      // in the order they were first set
	forced      []forcedDecision // likewise
	segments    []string
	hasSegments bool
}

type attribute struct {
	key   string
	given any // as the caller gave it
	value decision.Value
}

// NewUser makes the context of a user; id may be "". Attribute values may be of any
// type: booleans, numbers of all kinds, json.Number, strings and nil take part in
// conditions; of anything else only the existence can be asked for. The map is
// copied, and values are read now: a slice changed later changes nothing.
//
// It works while the client isn't ready yet. Source: decide.md DC-42, pages.md U-1.
func (c *Client) NewUser(id string, attributes map[string]any) *UserContext {
	state := &userState{}
	if len(attributes) > 0 {
		state.attributes = make([]attribute, 0, len(attributes))
		for _, key := range slices.Sorted(maps.Keys(attributes)) { // so that equal users send equal events
			given := attributes[key]
			state.attributes = append(state.attributes, attribute{key, given, valueOf(given)})
		}
	}
	return c.userOf(id, state)
}

func (c *Client) userOf(id string, state *userState) *UserContext {
	u := &UserContext{client: c, id: id}
	u.state.Store(state)
	return u
}

// ID is the user id.
func (u *UserContext) ID() string { return u.id }

// change replaces the state by what f makes of a copy. f must not write into the
// copy's slices, which the old state shares.
func (u *UserContext) change(f func(*userState)) {
	u.writing.Lock()
	defer u.writing.Unlock()
	next := *u.state.Load()
	f(&next)
	u.state.Store(&next)
}

// SetAttribute sets an attribute, nil included; decisions made from now on see it.
// Source: decide.md DC-43, pages.md U-2.
func (u *UserContext) SetAttribute(key string, value any) {
	set := attribute{key, value, valueOf(value)}
	u.change(func(s *userState) {
		i := slices.IndexFunc(s.attributes, func(a attribute) bool { return a.key == key })
		if i < 0 {
			s.attributes = append(slices.Clip(s.attributes), set)
			return
		}
		s.attributes = slices.Clone(s.attributes)
		s.attributes[i] = set
	})
}

// Attributes returns a copy of the attributes, never nil, with the values as they
// were given. Source: decide.md DC-43.
func (u *UserContext) Attributes() map[string]any { return u.state.Load().attributeMap() }

func (s *userState) attributeMap() map[string]any {
	out := make(map[string]any, len(s.attributes))
	for i := range s.attributes {
		out[s.attributes[i].key] = s.attributes[i].given
	}
	return out
}

// prepare makes u this user of project p.
func (s *userState) prepare(u *decision.User, p *decision.Project, id string) {
	u.Reset(p, id)
	for i := range s.attributes {
		u.SetAttribute(s.attributes[i].key, s.attributes[i].value)
	}
	if s.hasSegments {
		u.SetSegments(s.segments)
	}
	for i := range s.forced {
		f := &s.forced[i]
		u.SetForcedDecision(f.FlagKey, f.RuleKey, f.VariationKey)
	}
}
