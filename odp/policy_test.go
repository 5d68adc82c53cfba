package odp

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPolicies: what each failure means under each policy.
func TestPolicies(t *testing.T) {
	unavailable, unknownUser := &Error{Class: HTTPError, Status: 503}, &Error{Class: InvalidIdentifier}
	for _, row := range []struct {
		policy  Policy
		failure *Error
		verdict Verdict
		source  Source
		code    string
	}{
		{Unknown, unavailable, DecideUnknown, FromNowhere, "http_error"},
		{Unknown, unknownUser, DecideUnknown, FromNowhere, "invalid_identifier"},
		{Stale, unavailable, DecideKnown, FromStale, "stale"},
		{Stale, unknownUser, DecideUnknown, FromNowhere, "invalid_identifier"},
		{Hold, unknownUser, DecideUnknown, FromNowhere, "invalid_identifier"},
		{Hold, &Error{Class: HTTPError, Status: 403}, DecideUnknown, FromNowhere, "http_error"},
		{DeadLetter, unavailable, Refuse, FromNowhere, "http_error"},
		{DeadLetter, unknownUser, Refuse, FromNowhere, "invalid_identifier"},
	} {
		t.Run(row.policy.String()+" "+row.code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{users: map[string][]string{"u": {"vip"}}}
				s := newFaked(t, f, func(c *Config) { c.CacheTimeout, c.StaleFor, c.BreakerFailures = time.Minute, time.Hour, 0 })
				defer s.Close()
				users := []User{{Value: "u"}, {Value: "u"}}
				out, err := s.Resolve(t.Context(), users, row.policy, 0)
				require.NoError(t, err)
				require.Equal(t, DecideKnown, out[0].Verdict)
				require.Empty(t, out[0].Code())
				time.Sleep(time.Minute)
				f.fail(row.failure)
				out, err = s.Resolve(t.Context(), users, row.policy, time.Second)
				require.NoError(t, err)
				for _, r := range out {
					require.Equal(t, row.verdict, r.Verdict)
					require.Equal(t, row.source, r.Source)
					require.Equal(t, row.code, r.Code())
					require.Equal(t, row.verdict == DecideKnown, r.Segments != nil)
				}
			})
		})
	}
}

// TestHold asks again for those only who have no answer, until they have.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"a": {"vip"}, "b": {"b2"}}}
		s := newFaked(t, f, func(c *Config) { c.BreakerFailures = 3 })
		defer s.Close()
		fetch(t, s, "a", 0)
		f.fail(ErrNetwork)
		time.AfterFunc(20*time.Second, func() { f.fail(nil) })
		before := time.Now()
		out, err := s.Resolve(t.Context(), []User{{Value: "a"}, {Value: "b"}, {Value: "a"}}, Hold, time.Second)
		require.NoError(t, err)
		require.Greater(t, time.Since(before), 20*time.Second)
		require.Less(t, time.Since(before), time.Minute)
		require.Equal(t, []string{"vip"}, out[0].Segments)
		require.Equal(t, []string{"b2"}, out[1].Segments)
		require.Equal(t, []string{"vip"}, out[2].Segments)
		for _, q := range f.asked[1:] {
			require.Equal(t, "b", q.Value)
		}
		require.Less(t, len(f.asked), 15, "the breaker and growing pauses spare ODP")

		// Held until the batch is given up: nothing is said of any user.
		f.fail(ErrNetwork)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out, err = s.Resolve(ctx, []User{{Value: "c"}, {Value: "a"}}, Hold, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Nil(t, out)
	})
}

// TestResolveTimeout: a timeout means unknown, and the answer helps the next one.
func TestResolveTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{users: map[string][]string{"u": {"vip"}}, delay: 2 * time.Second}
		s := newFaked(t, f, nil)
		defer s.Close()
		before := time.Now()
		out, err := s.Resolve(t.Context(), []User{{Value: "u"}}, Unknown, time.Second)
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(before))
		require.Equal(t, DecideUnknown, out[0].Verdict)
		require.Equal(t, "network_error", out[0].Code())
		time.Sleep(1100 * time.Millisecond) // past the end of the request
		out, err = s.Resolve(t.Context(), []User{{Value: "u"}}, Unknown, time.Second)
		require.NoError(t, err)
		require.Equal(t, FromCache, out[0].Source)
		// A batch that is given up has no resolutions, under no policy.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, p := range []Policy{Unknown, Stale, Hold, DeadLetter} {
			_, err = s.Resolve(ctx, []User{{Value: "v"}}, p, time.Second)
			require.ErrorIs(t, err, context.Canceled)
		}
	})
}

func TestParsePolicy(t *testing.T) {
	for _, p := range []Policy{Unknown, Stale, Hold, DeadLetter} {
		text, err := p.MarshalText()
		require.NoError(t, err)
		var got Policy
		require.NoError(t, got.UnmarshalText(text))
		require.Equal(t, p, got)
	}
	_, err := ParsePolicy("")
	require.ErrorContains(t, err, "dead_letter")
}
