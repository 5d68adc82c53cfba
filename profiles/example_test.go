package profiles_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"sortition/decision"
	"sortition/profiles"
)

func profileOf(userID string) *decision.Profile {
	return &decision.Profile{UserID: userID, Entries: map[string]decision.ProfileEntry{"20710000101": {VariationID: "20730001012"}}}
}

func ExampleNewMemory() {
	ctx := context.Background()
	memory, err := profiles.NewMemory(100_000)
	if err != nil {
		panic(err)
	}
	_ = memory.Save(ctx, profileOf("u-17"))
	p, _ := memory.Lookup(ctx, "u-17")
	fmt.Println(p.Entries["20710000101"].VariationID)
	// Output: 20730001012
}

func ExampleNewRedis() {
	ctx := context.Background()
	server, err := miniredis.Run() // a Redis for the example
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	service := profiles.NewRedis(client, profiles.RedisOptions{Prefix: "shop:profile:"})
	fmt.Println(service.Save(ctx, profileOf("u-17")))
	text, _ := client.Get(ctx, "shop:profile:u-17").Result()
	fmt.Println(text)
	// Output:
	// <nil>
	// {"user_id":"u-17","experiment_bucket_map":{"20710000101":{"variation_id":"20730001012"}}}
}

func ExampleNewHTTP() {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Println(r.Method, r.URL.Path, r.Header.Get("Authorization"), string(body))
	}))
	defer server.Close()
	service, err := profiles.NewHTTP(profiles.HTTPOptions{
		Host: server.URL, LookupPath: "/profiles/lookup", SavePath: "/profiles/save",
		Header: http.Header{"Authorization": {"Bearer token"}},
	})
	if err != nil {
		panic(err)
	}
	defer service.Close()
	_ = service.Save(context.Background(), profileOf("u-17"))
	p, err := service.Lookup(context.Background(), "u-18")
	fmt.Println(p, err)
	// Output:
	// POST /profiles/save Bearer token {"experiment_bucket_map":{"20710000101":{"variation_id":"20730001012"}},"user_id":"u-17"}
	// POST /profiles/lookup Bearer token {"user_id":"u-18"}
	// <nil> <nil>
}
