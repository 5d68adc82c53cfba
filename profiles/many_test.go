package profiles

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// many is what both stores do.
type many interface {
	decision.ProfileService
	LookupMany(ctx context.Context, userIDs []string) ([]*decision.Profile, error)
	SaveMany(ctx context.Context, profiles []*decision.Profile) error
}

// clusterClient is for the cluster that SORTITION_REDIS_CLUSTER names (host:port,…),
// or for a server of the process's own that answers as a cluster of one.
func clusterClient(t *testing.T) *redis.ClusterClient {
	addresses := strings.Split(os.Getenv("SORTITION_REDIS_CLUSTER"), ",")
	if addresses[0] == "" {
		addresses = []string{miniredis.RunT(t).Addr()}
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// Many at a time give what one by one gives.
func TestMany(t *testing.T) {
	memory, err := NewMemory(10_000)
	require.NoError(t, err)
	for name, store := range map[string]many{
		"memory": memory, "redis": NewRedis(redisClient(t), RedisOptions{Prefix: prefix(t)}),
		"cluster": NewRedis(clusterClient(t), RedisOptions{Prefix: prefix(t)}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			got, err := store.LookupMany(ctx, nil)
			require.NoError(t, err)
			require.Empty(t, got)
			require.NoError(t, store.SaveMany(ctx, nil))

			const n = 2*chunk + 7
			ids := make([]string, n)
			var saved []*decision.Profile
			for i := range ids {
				ids[i] = fmt.Sprint("u{", i%3, "} ü\x00", i)
				if i%5 != 0 {
					saved = append(saved, profile(ids[i], fmt.Sprint(i)))
				}
			}
			require.NoError(t, store.SaveMany(ctx, saved))
			require.NoError(t, store.SaveMany(ctx, []*decision.Profile{profile(ids[1], "later")}))
			require.NoError(t, store.Save(ctx, profile(ids[2], "alone")))
			got, err = store.LookupMany(ctx, ids)
			require.NoError(t, err)
			require.Len(t, got, n)
			for i, id := range ids {
				one, err := store.Lookup(ctx, id)
				require.NoError(t, err)
				require.Equal(t, one, got[i], id)
				want := fmt.Sprint(i)
				switch {
				case i%5 == 0:
					require.Nil(t, got[i])
					continue
				case i == 1:
					want = "later"
				case i == 2:
					want = "alone"
				}
				require.Equal(t, id, got[i].UserID)
				require.Equal(t, want, got[i].Entries["100"].VariationID)
			}
		})
	}
}

// One value that is no profile is one user without, not a failure of all.
func TestRedisManyUnreadable(t *testing.T) {
	client := redisClient(t)
	o := RedisOptions{Prefix: prefix(t), TTL: time.Hour}
	r := NewRedis(client, o)
	ctx := t.Context()
	require.NoError(t, r.SaveMany(ctx, []*decision.Profile{profile("good", "1")}))
	ttl, err := client.TTL(ctx, o.Prefix+"good").Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour.Seconds(), ttl.Seconds(), 5)
	require.NoError(t, client.Set(ctx, o.Prefix+"bad", "[]", time.Minute).Err())
	require.NoError(t, client.Set(ctx, o.Prefix+"foreign", `{"user_id":"good","experiment_bucket_map":{}}`, time.Minute).Err())
	require.NoError(t, client.LPush(ctx, o.Prefix+"list", "x").Err())
	require.NoError(t, client.Expire(ctx, o.Prefix+"list", time.Minute).Err())

	users := []string{"bad", "good", "foreign", "nobody", "list"}
	got, err := r.LookupMany(ctx, users)
	require.NoError(t, err)
	for i, p := range got {
		require.Equal(t, users[i] == "good", p != nil, users[i])
	}
	require.EqualValues(t, 3, r.Unreadable())

	var again []*decision.Profile
	for _, id := range users {
		again = append(again, profile(id, "2"))
	}
	require.NoError(t, r.SaveMany(ctx, again), "whatever stood there is replaced")
	got, err = r.LookupMany(ctx, users)
	require.NoError(t, err)
	require.Equal(t, again[0].Entries["100"].VariationID, got[0].Entries["100"].VariationID)
	require.EqualValues(t, 3, r.Unreadable())
}

func TestRedisManyFails(t *testing.T) {
	users := []string{"secret-user", "another"}
	saved := []*decision.Profile{profile("secret-user", "1"), profile("another", "1")}
	check := func(t *testing.T, r *Redis, ctx context.Context) {
		got, err := r.LookupMany(ctx, users)
		require.Error(t, err)
		require.Nil(t, got)
		require.NotContains(t, err.Error(), "secret")
		err = r.SaveMany(ctx, saved)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
	gone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer gone.Close()
	check(t, NewRedis(gone, RedisOptions{}), t.Context())

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	r := NewRedis(redisClient(t), RedisOptions{Prefix: prefix(t)})
	check(t, r, cancelled)
	_, err := r.LookupMany(cancelled, users)
	require.ErrorIs(t, err, context.Canceled)

	// A server that answers with an error fails, even if it quotes the command.
	server := miniredis.RunT(t)
	server.SetError("ERR unknown command, with args beginning with: 'sortition:profile:secret-user'")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	defer client.Close()
	check(t, NewRedis(client, RedisOptions{}), t.Context())
	_, err = NewRedis(client, RedisOptions{}).Lookup(t.Context(), "secret-user")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}
