package decision

import (
	"cmp"
	"slices"
	"strings"
)

// bucketingKey is the attribute that replaces the user id in the hash.
const bucketingKey = "$opt_bucketing_id"

// A User is one user as a [Project] sees them: attributes in slots, segments as
// marks, forced decisions by flag. It is made for reuse: Reset costs the same
// however large the project is, and setting attributes doesn't allocate once
// the slices have grown. Strings given to it are kept until the next Reset.
//
// A User belongs to one goroutine at a time. The zero User needs a Reset first.
type User struct {
	p             *Project
	id            string
	values        []Value  // by slot; set when its epoch is the user's
	order         []uint32 // slots in the order their attributes came
	extras        []extra  // reserved attributes ($opt_…) that have no slot
	segmentEpochs []uint32 // by segment; the user's when it equals epoch
	segments      []string
	hasSegments   bool
	forced        []forcedDecision
	memo          []memo // by audience
	hasMemo       bool   // some of it may be the user's
	epoch         uint32
	memoEpoch     uint32
	state         hashState // of the bucketing id
	hasState      bool
	listed        uint32 // in Project.listedUsers, or none
	hasListed     bool
	events        []byte // rendered attributes for events
	hasEvents     bool
}

type memo struct {
	epoch  uint32
	result truth
}

type extra struct {
	key   string
	value Value
}

type forcedDecision struct {
	flag                  uint32
	ruleKey, variationKey string
}

// Reset makes u the user id of project p, without attributes, segments unknown,
// nothing forced.
func (u *User) Reset(p *Project, id string) {
	if u.p != p {
		u.p = p
		u.values = fit(u.values, len(p.slots))
		u.segmentEpochs = fit(u.segmentEpochs, p.numSegments)
		u.memo = fit(u.memo, len(p.audiences))
		u.epoch, u.memoEpoch = 0, 0
	}
	u.epoch++
	if u.epoch == 0 { // after 2^32 users the marks of the first would be valid again
		clear(u.values)
		clear(u.segmentEpochs)
		u.epoch = 1
	}
	u.forget()
	u.id = id
	u.order, u.extras, u.segments, u.forced = u.order[:0], u.extras[:0], u.segments[:0], u.forced[:0]
	u.hasSegments, u.hasState, u.hasListed, u.hasEvents = false, false, false, false
}

// fit returns a zeroed slice of n elements, reusing s if it is large enough.
func fit[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// forget drops the remembered audience results.
func (u *User) forget() {
	u.hasMemo = false
	u.memoEpoch++
	if u.memoEpoch == 0 {
		clear(u.memo)
		u.memoEpoch = 1
	}
}

// ID is the user id.
func (u *User) ID() string { return u.id }

// SetAttribute sets an attribute, replacing an earlier value of the same key. A
// key the project doesn't know has no effect on anything and is dropped, unless
// it is reserved ("$opt_…"), which events carry.
func (u *User) SetAttribute(key string, v Value) {
	u.hasEvents = false
	i := u.p.slotByKey.find(key)
	if i == none {
		if strings.HasPrefix(key, "$opt_") {
			u.setExtra(key, v)
		}
		return
	}
	if i == u.p.bucketingSlot {
		u.hasState = false
	}
	old := &u.values[i]
	if old.epoch != u.epoch {
		u.order = append(u.order, i)
	}
	if u.hasMemo { // an audience was asked before; it may have been about this key
		u.forget()
	}
	v.epoch = u.epoch
	*old = v
}

func (u *User) setExtra(key string, v Value) {
	for i := range u.extras {
		if u.extras[i].key == key {
			u.extras[i].value = v
			return
		}
	}
	u.extras = append(u.extras, extra{key, v})
}

// attribute returns the value in a slot; null and absent are told apart by ok.
func (u *User) attribute(i uint32) (v Value, ok bool) {
	return u.values[i], u.values[i].epoch == u.epoch
}

// SetSegments says which segments the user is known to be in; an empty list says
// none. Without it they are unknown, which conditions treat like none (AU-P5).
// The list is copied, its strings are not.
func (u *User) SetSegments(segments []string) {
	if u.hasSegments {
		clear(u.segmentEpochs)
	}
	u.forget()
	u.hasSegments = true
	u.segments = append(u.segments[:0], segments...)
	if len(u.segmentEpochs) == 0 {
		return
	}
	for _, s := range segments {
		if i := u.p.segmentByName.find(s); i != none {
			u.segmentEpochs[i] = u.epoch
		}
	}
}

// Segments returns the segments set, and whether they are known at all. The
// slice is u's own, valid until the next Reset.
func (u *User) Segments() ([]string, bool) { return u.segments, u.hasSegments }

// SetForcedDecision forces a flag, or with a rule key one of its rules, to a
// variation. ruleKey "" stands for the flag as a whole. A later call for the
// same flag and rule replaces the earlier one; unknown flags are ignored.
// Source: decide.md DC-11, DC-45; sdk-differences.md row 71.
func (u *User) SetForcedDecision(flagKey, ruleKey, variationKey string) {
	flag := u.p.flagByKey.find(flagKey)
	if flag == none {
		return
	}
	for i := range u.forced {
		if f := &u.forced[i]; f.flag == flag && f.ruleKey == ruleKey {
			f.variationKey = variationKey
			return
		}
	}
	u.forced = append(u.forced, forcedDecision{flag, ruleKey, variationKey})
}

// forcedKey returns the variation key forced for a flag and rule.
func (u *User) forcedKey(flag uint32, ruleKey string) (string, bool) {
	for i := range u.forced {
		if f := &u.forced[i]; f.flag == flag && f.ruleKey == ruleKey {
			return f.variationKey, true
		}
	}
	return "", false
}

// bucketingID returns what is hashed for the user, and whether the attribute
// that replaces the user id had to be ignored. Source: bucketing.md BK-5.
func (u *User) bucketingID() (id string, isIgnored bool) {
	v, ok := u.attribute(u.p.bucketingSlot)
	switch {
	case !ok || v.kind == KindNull:
		return u.id, false
	case v.kind == KindString:
		return v.text, false
	default:
		return u.id, true
	}
}

// listing returns the user's entry in a whitelist.
func (u *User) listing(list []listing) (listing, bool) {
	if !u.hasListed { // looked up once, since hardly anybody is on any list
		u.listed, u.hasListed = u.p.listedUsers.find(u.id), true
	}
	if u.listed == none {
		return listing{}, false
	}
	i, ok := slices.BinarySearchFunc(list, u.listed, func(l listing, user uint32) int { return cmp.Compare(l.user, user) })
	if !ok {
		return listing{}, false
	}
	return list[i], true
}

// hash returns the user's hash for a salt. Source: bucketing.md BK-4.
func (u *User) hash(salt string) uint32 {
	if !u.hasState {
		id, _ := u.bucketingID()
		u.state, u.hasState = newHashState(id), true
	}
	return u.state.sum(salt)
}
