package profiles

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// BenchmarkMemory keeps and looks up profiles of three experiments each: of one user, as
// a client does, and of the 1,000 users of a micro-batch.
func BenchmarkMemory(b *testing.B) {
	const users = 1000
	m, err := NewMemory(users)
	require.NoError(b, err)
	ctx := context.Background()
	ids := make([]string, users)
	kept := make([]*decision.Profile, users)
	for i := range ids {
		ids[i] = fmt.Sprint("user-", i)
		kept[i] = &decision.Profile{UserID: ids[i], Entries: map[string]decision.ProfileEntry{"1": {VariationID: "11"}, "2": {VariationID: "21"}, "3": {VariationID: "31"}}}
	}
	require.NoError(b, m.SaveMany(ctx, kept))
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if p, err := m.Lookup(ctx, ids[i%users]); err != nil || p == nil {
				b.Fatal(p, err)
			}
		}
	})
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := m.Save(ctx, kept[i%users]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lookup-1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if found, err := m.LookupMany(ctx, ids); err != nil || found[users-1] == nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("save-1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := m.SaveMany(ctx, kept); err != nil {
				b.Fatal(err)
			}
		}
	})
}
