package profiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sortition/decision"
)

// DefaultRedisPrefix is what keys begin with unless told otherwise.
const DefaultRedisPrefix = "sortition:profile:"

// RedisOptions say how profiles are kept in Redis.
type RedisOptions struct {
	// Prefix of the keys; the user id follows. Default [DefaultRedisPrefix].
	Prefix string
	// TTL is how long a profile is kept after it was saved. Default: for ever.
	TTL time.Duration
	// Timeout bounds one lookup or save, beside the caller's context. Default 1 s:
	// a decision waits for it.
	Timeout time.Duration
}

// Redis keeps profiles in Redis, as JSON texts of the shape that
// [decision.Profile] has. It is safe for concurrent use.
type Redis struct {
	client     redis.Cmdable
	o          RedisOptions
	unreadable atomic.Uint64
}

var _ decision.ProfileService = (*Redis)(nil)

// NewRedis keeps profiles with a client of the caller's, who configures and closes
// it: a single server, a sentinel or a cluster.
func NewRedis(client redis.Cmdable, o RedisOptions) *Redis {
	if o.Prefix == "" {
		o.Prefix = DefaultRedisPrefix
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	return &Redis{client: client, o: o}
}

// Lookup reads a user's profile, nil if there is none. A text that is no profile, or
// another user's, is an error.
func (r *Redis) Lookup(ctx context.Context, userID string) (*decision.Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	text, err := r.client.Get(ctx, r.o.Prefix+userID).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil //nolint:nilnil // the port says: an unknown user
	case err != nil:
		return nil, fmt.Errorf("read user profile from Redis: %w", withoutKeys(err))
	}
	p, err := parseFor(text, userID)
	if err != nil {
		return nil, fmt.Errorf("read user profile from Redis: %w", err)
	}
	return p, nil
}

// parseFor reads the profile of a user; another's is an error.
func parseFor(text []byte, userID string) (*decision.Profile, error) {
	p, err := decision.ParseProfile(text)
	if err != nil {
		return nil, err
	}
	if err := checkUser(p, userID); err != nil {
		return nil, err
	}
	return p, nil
}

// checkUser tells whose profile it is: stickiness by another's would be a wrong
// decision that nothing shows.
func checkUser(p *decision.Profile, userID string) error {
	if p.UserID != userID {
		return errors.New("it is another user's")
	}
	return nil
}

// Save writes a profile, in place of an earlier one.
func (r *Redis) Save(ctx context.Context, profile *decision.Profile) error {
	text, err := json.Marshal(profile)
	if err != nil {
		return errors.New("write user profile to Redis: it has no form in JSON")
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	if err := r.client.Set(ctx, r.o.Prefix+profile.UserID, text, max(r.o.TTL, 0)).Err(); err != nil {
		return fmt.Errorf("write user profile to Redis: %w", withoutKeys(err))
	}
	return nil
}
