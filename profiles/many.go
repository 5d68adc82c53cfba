package profiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"sortition/decision"
)

// chunk is how many users one round trip to Redis is for, each within the timeout.
const chunk = 500

// LookupMany returns the profiles of many users, in their order, nil where there is
// none. They are shared and must not be changed. The error is nil.
func (m *Memory) LookupMany(_ context.Context, userIDs []string) ([]*decision.Profile, error) {
	out := make([]*decision.Profile, len(userIDs))
	for i, id := range userIDs {
		out[i], _ = m.profiles.Get(id)
	}
	return out, nil
}

// SaveMany keeps profiles, which must not be changed afterwards. The error is nil.
func (m *Memory) SaveMany(_ context.Context, profiles []*decision.Profile) error {
	for _, p := range profiles {
		m.profiles.Add(p.UserID, p)
	}
	return nil
}

// LookupMany reads the profiles of many users, in their order, with one round trip for
// each 500; nil where there is none. What is no profile, or another user's, is nil
// too, and counted: one bad text doesn't hold up the others, and the next save replaces
// it. Source: decide.md DC-35.
func (r *Redis) LookupMany(ctx context.Context, userIDs []string) ([]*decision.Profile, error) {
	out := make([]*decision.Profile, 0, len(userIDs))
	for from := 0; from < len(userIDs); from += chunk {
		ids := userIDs[from:min(from+chunk, len(userIDs))]
		// A cluster has no MGET over several slots, but pipelines.
		answers, err := r.pipelined(ctx, func(p redis.Pipeliner) {
			for _, id := range ids {
				p.Get(ctx, r.o.Prefix+id)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read user profiles from Redis: %w", err)
		}
		for i, id := range ids {
			p, err := profileOf(answers[i], id)
			if err != nil {
				return nil, fmt.Errorf("read user profiles from Redis: %w", withoutKeys(err))
			}
			if p == unreadable {
				r.unreadable.Add(1)
				p = nil
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// unreadable stands for a value that is no profile of the user.
var unreadable = &decision.Profile{}

func profileOf(answer redis.Cmder, userID string) (*decision.Profile, error) {
	get, ok := answer.(*redis.StringCmd)
	if !ok {
		panic("BUG: GET answers a text")
	}
	text, err := get.Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil //nolint:nilnil // the port says: an unknown user
	case err != nil && redis.HasErrorPrefix(err, "WRONGTYPE"): // the key holds a list, or so
		return unreadable, nil
	case err != nil:
		return nil, err
	}
	if p, err := parseFor(text, userID); err == nil {
		return p, nil
	}
	return unreadable, nil
}

// SaveMany writes profiles, each in place of an earlier one, with one round trip for
// each 500. After an error some may have been written.
func (r *Redis) SaveMany(ctx context.Context, profiles []*decision.Profile) error {
	texts := make([][]byte, 0, min(len(profiles), chunk))
	for from := 0; from < len(profiles); from += chunk {
		some := profiles[from:min(from+chunk, len(profiles))]
		texts = texts[:0]
		for _, p := range some {
			text, err := json.Marshal(p)
			if err != nil {
				return errors.New("write user profiles to Redis: one has no form in JSON")
			}
			texts = append(texts, text)
		}
		answers, err := r.pipelined(ctx, func(p redis.Pipeliner) {
			for i := range some {
				p.Set(ctx, r.o.Prefix+some[i].UserID, texts[i], max(r.o.TTL, 0))
			}
		})
		if err != nil {
			return fmt.Errorf("write user profiles to Redis: %w", err)
		}
		for _, answer := range answers {
			if err := answer.Err(); err != nil {
				return fmt.Errorf("write user profiles to Redis: %w", withoutKeys(err))
			}
		}
	}
	return nil
}

// Unreadable counts the values LookupMany found that are no profile of their user.
func (r *Redis) Unreadable() uint64 { return r.unreadable.Load() }

// pipelined sends commands in one go. Each answer has an error of its own; the error
// returned says that there are none.
func (r *Redis) pipelined(ctx context.Context, fill func(redis.Pipeliner)) ([]redis.Cmder, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	p := r.client.Pipeline()
	fill(p)
	n := p.Len()
	answers, err := p.Exec(ctx)
	if len(answers) != n {
		if err == nil {
			err = errors.New("an answer is missing")
		}
		return nil, withoutKeys(err)
	}
	return answers, nil
}

// withoutKeys is an error without Redis' own words but the first: they may quote a
// command with its key, which holds a user id.
func withoutKeys(err error) error {
	var own redis.Error
	if errors.As(err, &own) {
		word, _, _ := strings.Cut(own.Error(), " ")
		return errors.New(word)
	}
	return err
}
