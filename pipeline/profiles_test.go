package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sortition/decision"
	"sortition/examples"
	keep "sortition/profiles"
	"sortition/schemas"
)

// shiftedDatafile is the sample with the traffic of every experiment gone to the
// variation of its last range, so that only a profile keeps users where they were.
func shiftedDatafile(t *testing.T) []byte {
	var file map[string]any
	require.NoError(t, json.Unmarshal(examples.Datafile(), &file))
	shift := func(list any) {
		for _, e := range list.([]any) {
			ranges := e.(map[string]any)["trafficAllocation"].([]any)
			for _, r := range ranges {
				r.(map[string]any)["entityId"] = ranges[len(ranges)-1].(map[string]any)["entityId"]
			}
		}
	}
	shift(file["experiments"])
	for _, g := range file["groups"].([]any) {
		shift(g.(map[string]any)["experiments"])
	}
	text, err := json.Marshal(file)
	require.NoError(t, err)
	return text
}

// A batch that asks once and saves once decides, and leaves behind, what asking and
// saving for each activity does: over batches of random sizes in which users come
// again, some of which fail, while the traffic changes.
func TestProfilesOfBatchesAreThoseOfActivities(t *testing.T) {
	var projects [2]*decision.Project
	for i, text := range [][]byte{examples.Datafile(), shiftedDatafile(t)} {
		var err error
		projects[i], err = decision.Compile(text)
		require.NoError(t, err)
	}
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	for name, newStore := range map[string]func(seed uint64) ProfileStore{
		"memory": func(uint64) ProfileStore { m, _ := keep.NewMemory(1000); return m },
		"redis": func(seed uint64) ProfileStore {
			return keep.NewRedis(client, keep.RedisOptions{Prefix: fmt.Sprint(seed, ":")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			kept := 0
			for seed := range uint64(5) {
				kept += checkBatches(t, seed, newStore(seed), projects)
			}
			require.Positive(t, kept, "profiles made no difference: nothing is tested")
		})
	}
}

// oneByOne is a store asked for each activity. Ids that lie in a decoder's buffer are
// not its to keep.
type oneByOne struct{ *keep.Memory }

func (s oneByOne) Save(ctx context.Context, p *decision.Profile) error {
	return s.Memory.Save(ctx, &decision.Profile{UserID: strings.Clone(p.UserID), Entries: p.Entries})
}

func checkBatches(t *testing.T, seed uint64, store ProfileStore, projects [2]*decision.Project) (kept int) {
	ctx := t.Context()
	r := rand.New(rand.NewPCG(seed, 2))
	alone, err := keep.NewMemory(1000)
	require.NoError(t, err)
	one := &decision.Env{Profiles: oneByOne{alone}}
	shared := NewProfiles(store, ProfilesHold)
	b := shared.newBatch()
	batched := &decision.Env{Profiles: b}
	const users = 60
	var decoder schemas.Decoder
	var a schemas.Activity
	for step := range 40 {
		p := projects[step/10%2]
		records := make([][]byte, 1+r.IntN(40))
		for i := range records {
			records[i] = fmt.Appendf(nil, `{"user_id":"\u0075%d"}`, r.IntN(users)) // the id lies in the decoder's buffer
		}
		decide := func(i int, env *decision.Env) []decision.Decision {
			require.NoError(t, decoder.Decode(records[i], &a))
			var u decision.User
			u.Reset(p, a.UserID)
			options := decision.IncludeReasons
			if i%7 == 3 {
				options |= decision.IgnoreUserProfileService
			}
			return p.DecideAll(ctx, nil, &u, options, env)
		}
		b.reset()
		for i := range records {
			require.NoError(t, decoder.Decode(records[i], &a))
			b.want(a.UserID)
		}
		require.NoError(t, b.fetch(ctx))
		if r.IntN(3) == 0 { // made again, without having been stored
			for i := range records {
				decide(i, batched)
			}
			b.rewind()
		}
		for i := range records {
			got := decide(i, batched)
			bare := decide(i, nil)
			want := decide(i, one)
			for k := range want {
				wantKey, _ := want[k].VariationKey()
				gotKey, _ := got[k].VariationKey()
				bareKey, _ := bare[k].VariationKey()
				require.Equal(t, wantKey, gotKey, "seed %d step %d record %d %s", seed, step, i, want[k].FlagKey())
				require.Equal(t, want[k].Reasons(), got[k].Reasons())
				if bareKey != gotKey {
					kept++
				}
			}
		}
		require.NoError(t, b.flush(ctx))
		require.NoError(t, b.flush(ctx), "there is nothing left to keep")
	}
	var ids []string
	for i := range users {
		ids = append(ids, fmt.Sprint("u", i))
	}
	want, err := alone.LookupMany(ctx, ids)
	require.NoError(t, err)
	got, err := store.LookupMany(ctx, ids)
	require.NoError(t, err)
	for i := range ids {
		wantText, err := json.Marshal(want[i])
		require.NoError(t, err)
		gotText, err := json.Marshal(got[i])
		require.NoError(t, err)
		require.JSONEq(t, string(wantText), string(gotText), ids[i])
	}
	return kept
}

// countingStore counts calls and fails when told to.
type countingStore struct {
	*keep.Memory
	lookups, saves int
	asked, saved   int
	lookupErr      error
	saveErr        error
}

func (s *countingStore) LookupMany(ctx context.Context, ids []string) ([]*decision.Profile, error) {
	s.lookups++
	s.asked += len(ids)
	if s.lookupErr != nil {
		return nil, s.lookupErr
	}
	return s.Memory.LookupMany(ctx, ids)
}

func (s *countingStore) SaveMany(ctx context.Context, all []*decision.Profile) error {
	s.saves++
	s.saved += len(all)
	if s.saveErr != nil {
		return s.saveErr
	}
	return s.Memory.SaveMany(ctx, all)
}

func profileOf(userID, variation string) *decision.Profile {
	return &decision.Profile{UserID: userID, Entries: map[string]decision.ProfileEntry{"1": {VariationID: variation}}}
}

func variationOf(t *testing.T, from decision.ProfileService, userID string) string {
	p, err := from.Lookup(t.Context(), userID)
	require.NoError(t, err)
	if p == nil {
		return ""
	}
	return p.Entries["1"].VariationID
}

func TestProfilesAreAskedForAndSavedOnce(t *testing.T) {
	ctx := t.Context()
	memory, err := keep.NewMemory(100)
	require.NoError(t, err)
	store := &countingStore{Memory: memory}
	shared := NewProfiles(store, ProfilesHold)
	b := shared.newBatch()
	require.NoError(t, b.fetch(ctx))
	require.NoError(t, b.flush(ctx))
	require.Zero(t, store.lookups, "a batch without users asks nobody")

	for range 3 {
		b.want("a")
		b.want("b")
		b.want("c")
	}
	require.NoError(t, memory.Save(ctx, profileOf("b", "old")))
	require.NoError(t, b.fetch(ctx))
	id := []byte("a")
	require.NoError(t, b.Save(ctx, profileOf(string(id), "1")))
	require.Equal(t, "1", variationOf(t, b, "a"), "the next activity of the batch sees it")
	require.Equal(t, "old", variationOf(t, b, "b"))
	require.NoError(t, b.Save(ctx, profileOf("a", "2")))
	require.Empty(t, variationOf(t, memory, "a"), "nothing is kept before the flush")
	require.NoError(t, b.flush(ctx))
	require.Equal(t, "2", variationOf(t, memory, "a"))
	require.Equal(t, []int{1, 1, 3, 1}, []int{store.lookups, store.saves, store.asked, store.saved})
	require.Equal(t, ProfileStats{Asked: 3, Found: 1, Saved: 1}, shared.Stats())

	require.PanicsWithValue(t, "BUG: a user is decided whose profile wasn't wanted", func() { _, _ = b.Lookup(ctx, "d") })
	b.reset()
	require.Panics(t, func() { _, _ = b.Lookup(ctx, "a") })
}

func TestProfilePolicies(t *testing.T) {
	for name, want := range map[string]ProfilePolicy{"hold": ProfilesHold, "ignore": ProfilesIgnore} {
		got, err := ParseProfilePolicy(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ParseProfilePolicy("")
	require.Error(t, err)

	ctx := t.Context()
	down := errors.New("down")
	start := func(policy ProfilePolicy) (*countingStore, *Profiles, *batchProfiles) {
		memory, err := keep.NewMemory(100)
		require.NoError(t, err)
		require.NoError(t, memory.Save(ctx, profileOf("a", "kept")))
		store := &countingStore{Memory: memory}
		shared := NewProfiles(store, policy)
		b := shared.newBatch()
		b.want("a")
		b.want("b")
		return store, shared, b
	}

	store, shared, b := start(ProfilesHold)
	store.lookupErr = down
	require.ErrorIs(t, b.fetch(ctx), down)
	store.lookupErr, store.saveErr = nil, down
	require.NoError(t, b.fetch(ctx))
	require.NoError(t, b.Save(ctx, profileOf("b", "1")))
	require.ErrorIs(t, b.flush(ctx), down)
	store.saveErr = nil
	require.NoError(t, b.flush(ctx), "the same batch may try again")
	require.Equal(t, "1", variationOf(t, store.Memory, "b"))
	require.Equal(t, ProfileStats{Asked: 4, Found: 1, Saved: 1, LookupFailures: 2, SaveFailures: 1}, shared.Stats())

	store, shared, b = start(ProfilesIgnore)
	store.lookupErr = down
	require.NoError(t, b.fetch(ctx))
	require.Empty(t, variationOf(t, b, "a"))
	require.NoError(t, b.Save(ctx, profileOf("a", "1")))
	require.Equal(t, "1", variationOf(t, b, "a"))
	require.NoError(t, b.flush(ctx))
	require.Equal(t, "kept", variationOf(t, store.Memory, "a"), "what could not be read is not replaced")
	require.Equal(t, ProfileStats{Asked: 2, LookupFailures: 2, SaveFailures: 1}, shared.Stats())

	store, shared, b = start(ProfilesIgnore)
	store.saveErr = down
	require.NoError(t, b.fetch(ctx))
	require.NoError(t, b.Save(ctx, profileOf("b", "1")))
	require.NoError(t, b.flush(ctx))
	require.Equal(t, ProfileStats{Asked: 2, Found: 1, SaveFailures: 1}, shared.Stats())

	// The end of the batch's own time is no failure of the store that could be ignored.
	store, _, b = start(ProfilesIgnore)
	over, cancel := context.WithCancel(ctx)
	cancel()
	store.lookupErr = context.Canceled
	require.ErrorIs(t, b.fetch(over), context.Canceled)
	store.lookupErr, store.saveErr = nil, context.Canceled
	require.NoError(t, b.fetch(ctx))
	require.NoError(t, b.Save(ctx, profileOf("b", "1")))
	require.ErrorIs(t, b.flush(over), context.Canceled)
}
