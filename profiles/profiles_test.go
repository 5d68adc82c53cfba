package profiles

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/decision"
	"sortition/examples"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func profile(userID string, variations ...string) *decision.Profile {
	p := &decision.Profile{UserID: userID, Entries: map[string]decision.ProfileEntry{}}
	for i, v := range variations {
		p.Entries[fmt.Sprint(100+i)] = decision.ProfileEntry{VariationID: v}
	}
	return p
}

// redisClient is for a real Redis if SORTITION_REDIS names one, such as
// redis://localhost:6379/0, else for one of the process's own.
func redisClient(t *testing.T) *redis.Client {
	o := &redis.Options{}
	if address := os.Getenv("SORTITION_REDIS"); address != "" {
		var err error
		o, err = redis.ParseURL(address)
		require.NoError(t, err)
	} else {
		o.Addr = miniredis.RunT(t).Addr()
	}
	o.MaxRetries = -1
	c := redis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// prefix keeps tests apart that share a server.
func prefix(t *testing.T) string {
	return fmt.Sprintf("sortition-test:%s:%d:", t.Name(), time.Now().UnixNano())
}

// profileServer is a profile service in one of the two shapes.
type profileServer struct {
	mu       sync.Mutex
	profiles map[string]json.RawMessage // by user, the entries
	requests []string
	shape    HTTPShape
	status   int // 0: as it should be
	answer   string
}

func (s *profileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
	if s.status != 0 {
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
		return
	}
	names := shapes[s.shape]
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members[names.userID] == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	user := string(members[names.userID])
	switch r.URL.Path {
	case names.save:
		s.profiles[user] = members[names.entries]
	case names.lookup:
		entries, ok := s.profiles[user]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer, _ := json.Marshal(map[string]json.RawMessage{names.userID: members[names.userID], names.entries: entries})
		_, _ = w.Write(answer)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

func startServer(t *testing.T, shape HTTPShape) (*profileServer, *HTTP) {
	s := &profileServer{profiles: map[string]json.RawMessage{}, shape: shape}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	h, err := NewHTTP(HTTPOptions{Host: server.URL, Shape: shape, Header: http.Header{"Authorization": {"Bearer t"}}})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return s, h
}

// Whatever keeps them, profiles come back as they were saved, and the last one
// counts.
func TestServices(t *testing.T) {
	memory, err := NewMemory(10)
	require.NoError(t, err)
	_, sdk := startServer(t, SDKShape)
	_, agent := startServer(t, AgentShape)
	for name, service := range map[string]decision.ProfileService{
		"memory": memory, "redis": NewRedis(redisClient(t), RedisOptions{Prefix: prefix(t)}), "http": sdk, "agent": agent,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			got, err := service.Lookup(ctx, "nobody")
			require.NoError(t, err)
			require.Nil(t, got)
			require.NoError(t, service.Save(ctx, profile("ü \x00\"u\"", "1", "2")))
			require.NoError(t, service.Save(ctx, profile("other", "7")))
			require.NoError(t, service.Save(ctx, profile("ü \x00\"u\"", "3")))
			got, err = service.Lookup(ctx, "ü \x00\"u\"")
			require.NoError(t, err)
			require.Equal(t, "ü \x00\"u\"", got.UserID)
			require.Len(t, got.Entries, 1)
			require.Equal(t, "3", got.Entries["100"].VariationID)
		})
	}
}

// A decision made with a service is sticky: the profile, not the bucket, decides.
func TestStickiness(t *testing.T) {
	memory, err := NewMemory(10)
	require.NoError(t, err)
	_, over := startServer(t, SDKShape)
	p, err := decision.Compile(examples.Datafile())
	require.NoError(t, err)
	for name, service := range map[string]decision.ProfileService{
		"memory": memory, "redis": NewRedis(redisClient(t), RedisOptions{Prefix: prefix(t)}), "http": over,
	} {
		t.Run(name, func(t *testing.T) {
			env := &decision.Env{Profiles: service}
			numSticky := 0
			for i := range 40 {
				var u decision.User
				u.Reset(p, fmt.Sprint("u", i))
				before := p.DecideAll(t.Context(), nil, &u, 0, env)
				after := p.DecideAll(t.Context(), nil, &u, decision.IncludeReasons, env)
				for k := range before {
					a, _ := before[k].VariationKey()
					b, _ := after[k].VariationKey()
					require.Equal(t, a, b)
					for _, r := range after[k].Reasons() {
						if r.Code == decision.ReasonSticky {
							numSticky++
						}
					}
				}
			}
			require.Positive(t, numSticky, "nobody was bucketed by an experiment")
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	_, err := NewMemory(0)
	require.Error(t, err)
	m, err := NewMemory(2)
	require.NoError(t, err)
	for _, user := range []string{"a", "b"} {
		require.NoError(t, m.Save(t.Context(), profile(user, "1")))
	}
	_, _ = m.Lookup(t.Context(), "a") // used last
	require.NoError(t, m.Save(t.Context(), profile("c", "1")))
	require.Equal(t, 2, m.Len())
	for user, isKept := range map[string]bool{"a": true, "b": false, "c": true} {
		p, err := m.Lookup(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, isKept, p != nil, user)
	}
}

func TestRedis(t *testing.T) {
	client := redisClient(t)
	o := RedisOptions{Prefix: prefix(t), TTL: time.Hour}
	r := NewRedis(client, o)
	require.NoError(t, r.Save(t.Context(), profile("u", "1")))
	ttl, err := client.TTL(t.Context(), o.Prefix+"u").Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour.Seconds(), ttl.Seconds(), 5)
	text, err := client.Get(t.Context(), o.Prefix+"u").Result()
	require.NoError(t, err)
	require.JSONEq(t, `{"user_id":"u","experiment_bucket_map":{"100":{"variation_id":"1"}}}`, text)

	require.NoError(t, client.Set(t.Context(), o.Prefix+"bad", "[]", time.Minute).Err())
	_, err = r.Lookup(t.Context(), "bad")
	require.ErrorContains(t, err, "read user profile from Redis: parse user profile: ")
	require.NoError(t, client.Set(t.Context(), o.Prefix+"foreign", text, time.Minute).Err())
	p, err := r.Lookup(t.Context(), "foreign")
	require.EqualError(t, err, "read user profile from Redis: it is another user's")
	require.Nil(t, p)

	require.NoError(t, client.Set(t.Context(), o.Prefix+"more",
		`{"user_id":"more","experiment_bucket_map":{"5":{"variation_id":"6","note":1},"7":8}}`, time.Minute).Err())
	p, err = r.Lookup(t.Context(), "more")
	require.NoError(t, err)
	require.Equal(t, "6", p.Entries["5"].VariationID)
	require.Empty(t, p.Entries["7"].VariationID)
	require.NoError(t, r.Save(t.Context(), p))
	text, err = client.Get(t.Context(), o.Prefix+"more").Result()
	require.NoError(t, err)
	require.Contains(t, text, `"note":1`, "an entry that wasn't replaced keeps what it had")

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Lookup(canceled, "u")
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), o.Prefix)

	gone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer gone.Close()
	_, err = NewRedis(gone, RedisOptions{}).Lookup(t.Context(), "secret-user")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret-user")
	err = NewRedis(gone, RedisOptions{}).Save(t.Context(), profile("secret-user", "1"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret-user")
}

func TestHTTP(t *testing.T) {
	for _, host := range []string{"", "profiles", "ftp://h", "http://", "http://h\x7f"} {
		_, err := NewHTTP(HTTPOptions{Host: host})
		require.Error(t, err, host)
	}
	_, err := NewHTTP(HTTPOptions{Host: "http://h", Shape: 9})
	require.Error(t, err)

	s, h := startServer(t, SDKShape)
	require.NoError(t, h.Save(t.Context(), profile("u", "1")))
	_, err = h.Lookup(t.Context(), "u")
	require.NoError(t, err)
	require.Equal(t, []string{
		`POST /save Bearer t {"experiment_bucket_map":{"100":{"variation_id":"1"}},"user_id":"u"}`,
		`POST /lookup Bearer t {"user_id":"u"}`,
	}, s.requests)

	// Nothing is asked about nobody.
	p, err := h.Lookup(t.Context(), "")
	require.NoError(t, err)
	require.Nil(t, p)
	require.NoError(t, h.Save(t.Context(), profile("", "1")))
	require.Len(t, s.requests, 2)

	for _, row := range []struct {
		status int
		answer string
		isErr  bool
	}{
		{200, "", false}, {204, "", false}, {404, "nothing here", false},
		{200, "nonsense", true}, {200, "[]", true}, {200, `{"user_id":"u"}`, true}, {500, "", true}, {302, "", true}, {401, "", true},
	} {
		s.status, s.answer = row.status, row.answer
		p, err := h.Lookup(t.Context(), "secret-user")
		require.Nil(t, p)
		require.Equal(t, row.isErr, err != nil, "%d %q: %v", row.status, row.answer, err)
		if err != nil {
			require.NotContains(t, err.Error(), "secret-user")
		}
		err = h.Save(t.Context(), profile("secret-user", "1"))
		require.Equal(t, row.status < 200 || row.status > 299, err != nil, "%d: %v", row.status, err)
	}

	s.status, s.answer = 200, `{"user_id":"u","experiment_bucket_map":{},"pad":"`+string(make([]byte, maxHTTPProfile))+`"}`
	_, err = h.Lookup(t.Context(), "u")
	require.ErrorContains(t, err, "larger")
}

// A redirect is followed nowhere: what a save became there could look like success, and
// user id and credentials are for one host. A client of the caller's own goes on
// following them elsewhere.
func TestHTTPRedirects(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, `{"user_id":"u","experiment_bucket_map":{}}`)
	}))
	defer other.Close()
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, int(status.Load()))
	}))
	defer server.Close()
	for _, client := range []*http.Client{nil, server.Client()} {
		h, err := NewHTTP(HTTPOptions{Host: server.URL, Header: http.Header{"X-Api-Key": {"secret"}}, Client: client})
		require.NoError(t, err)
		defer h.Close()
		for _, code := range []int{301, 302, 303, 307, 308} {
			status.Store(int64(code))
			require.EqualError(t, h.Save(t.Context(), profile("u", "1")), fmt.Sprint("save user profile over HTTP: status ", code))
			_, err := h.Lookup(t.Context(), "u")
			require.EqualError(t, err, fmt.Sprint("look up user profile over HTTP: status ", code))
		}
		require.Zero(t, elsewhere.Load())
	}
	require.Nil(t, server.Client().CheckRedirect)
}

// A service that answers with somebody else's profile is not believed, whatever the
// shape.
func TestHTTPForeign(t *testing.T) {
	for shape, answer := range map[HTTPShape]string{
		SDKShape:   `{"user_id":"other","experiment_bucket_map":{"100":{"variation_id":"1"}}}`,
		AgentShape: `{"userId":"other","experimentBucketMap":{"100":{"variation_id":"1"}}}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		defer server.Close()
		h, err := NewHTTP(HTTPOptions{Host: server.URL, Shape: shape})
		require.NoError(t, err)
		defer h.Close()
		p, err := h.Lookup(t.Context(), "u")
		require.EqualError(t, err, "look up user profile over HTTP: it is another user's")
		require.Nil(t, p)
		p, err = h.Lookup(t.Context(), "other")
		require.NoError(t, err)
		require.Equal(t, "other", p.UserID)
	}
}

// A service that hangs costs a decision its timeout, no more.
func TestHTTPTimeout(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	h, err := NewHTTP(HTTPOptions{Host: server.URL, Timeout: 20 * time.Millisecond})
	require.NoError(t, err)
	defer h.Close()
	_, err = h.Lookup(t.Context(), "u")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
}
