package odp

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHitAllocs: a hit in memory doesn't allocate.
func TestHitAllocs(t *testing.T) {
	s := newFaked(t, &fake{users: map[string][]string{"user-1": {"vip"}}}, nil)
	defer s.Close()
	ctx, u := context.Background(), User{Value: "user-1"}
	s.Fetch(ctx, u, 0)
	users, dst := []User{u, u, u}, make([]Result, 0, 3)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if r := s.Fetch(ctx, u, 0); r.Source != FromCache {
			t.Fatalf("%+v", r)
		}
		s.AppendMany(ctx, dst, users, 0)
		known := 0
		s.Known(users, func(_ int, _ []string, isKnown bool) {
			if isKnown {
				known++
			}
		})
		if known != len(users) {
			t.Fatal(known)
		}
	}))
}

func BenchmarkHit(b *testing.B) {
	s := newFaked(b, &fake{users: map[string][]string{"user-1": {"vip"}}}, nil)
	defer s.Close()
	ctx, u := context.Background(), User{Value: "user-1"}
	s.Fetch(ctx, u, 0)
	b.ReportAllocs()
	for b.Loop() {
		s.Fetch(ctx, u, 0)
	}
}

// BenchmarkFetchMany asks for 1,000 users of whom a share is in the cache: of a
// fetcher in memory, which shows our own cost, and of the emulator over HTTP.
func BenchmarkFetchMany(b *testing.B) {
	em := newODP(b)
	for _, over := range []string{"memory", "http"} {
		for _, hits := range []int{0, 90, 100} {
			b.Run(fmt.Sprintf("%s/hits=%d", over, hits), func(b *testing.B) {
				var s *Segments
				if over == "http" {
					s = newSegments(b, integrationOf(em, "vip", "b2"), func(c *Config) { c.CacheSize = 1000 })
				} else {
					s = newFaked(b, &fake{}, func(c *Config) { c.CacheSize = 1000 })
					defer s.Close()
				}
				users := make([]User, 1000)
				for i := range users {
					users[i].Value = fmt.Sprint("user-", i)
				}
				s.FetchMany(b.Context(), users[:hits*10], 0)
				lru, _ := s.store.(*LRU)
				dst := make([]Result, 0, len(users))
				b.ReportAllocs()
				for b.Loop() {
					for _, u := range users[hits*10:] { // forget the others, at a small cost
						lru.users.Remove(s.keyOf(u))
					}
					for _, r := range s.AppendMany(b.Context(), dst, users, 0) {
						if r.Err != nil {
							b.Fatal(r.Err)
						}
					}
				}
				b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "users/s")
			})
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	e := Event{Action: "viewed", Identifiers: map[string]string{FSUserID: "u", "email": "a@b.c"}, Data: map[string]any{"sku": "9", "price": 1.5}, ID: "id"}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendEvent(dst, &e, sender); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMiss is our own part of one request: rendering it, and reading the answer.
func BenchmarkMiss(b *testing.B) {
	q := Query{Key: FSUserID, Value: "user-1", Segments: []string{"vip", "b2", "newsletter"}}
	answer := []byte(`{"data":{"customer":{"audiences":{"edges":[{"node":{"name":"vip","state":"qualified"}},{"node":{"name":"b2","state":"not_qualified"}},{"node":{"name":"newsletter","state":"qualified"}}]}}}}`)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendQuery(dst, &q); err != nil {
			b.Fatal(err)
		}
		if segments, err := parseAnswer(answer); err != nil || len(segments) != 2 {
			b.Fatal(segments, err)
		}
	}
}
