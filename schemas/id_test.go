package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reference derives an id the way the documentation says, as plainly as can be.
func reference(stream string, coordinates []any, kind, key string, ordinal int64) string {
	var message []byte
	for _, part := range append(append([]any{"sortition.id.v1", stream}, coordinates...), kind, key, ordinal) {
		switch part := part.(type) {
		case string:
			message = binary.BigEndian.AppendUint32(message, uint32(len(part)))
			message = append(message, part...)
		case int64:
			message = binary.BigEndian.AppendUint64(message, uint64(part))
		}
	}
	sum := sha256.Sum256(message)
	sum[6] = sum[6]&0x0f | 0x40
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func TestIDsGolden(t *testing.T) {
	topic := Source{Topic: "activities", Partition: 3, Offset: 1042}
	file := Source{File: "users.ndjson", Line: 7}
	tests := []struct {
		name        string
		source      Source
		ownID       string
		hasOwnID    bool
		coordinates []any
		kind        IDKind
		key         string
		ordinal     int
		want        string
	}{
		{"decision of a topic's record", topic, "", false, []any{"topic", "activities", int64(3), int64(1042)}, IDDecision, "", 0, "136e90db-5704-48c5-ba9e-d8d0c7dd1904"},
		{"impression", topic, "", false, []any{"topic", "activities", int64(3), int64(1042)}, IDImpression, "checkout", 0, "43ad7f92-602a-4640-8445-b2395472de7e"},
		{"second impression", topic, "", false, []any{"topic", "activities", int64(3), int64(1042)}, IDImpression, "checkout", 1, "5d56bb0c-5a0f-4aba-afcb-ee91c109fd91"},
		{"conversion of a file's line", file, "", false, []any{"file", "users.ndjson", int64(7)}, IDConversion, "purchase", 0, "c89c163c-d7be-4a38-8d03-78a97eaf3690"},
		{"own id", file, "evt-1", true, []any{"id", "evt-1"}, IDDecision, "", 0, "16171f20-93db-4647-a8d8-a5faeeaaee48"},
		{"own id, empty", topic, "", true, []any{"id", ""}, IDODPEvent, "viewed", 0, "323cc67a-2acb-4b32-9e2b-dd7ea79f595a"},
	}
	var g IDs
	for _, test := range tests {
		g.Start("main", &test.source, test.ownID, test.hasOwnID)
		got := string(g.Append(nil, test.kind, test.key, test.ordinal))
		assert.Equal(t, reference("main", test.coordinates, string(test.kind), test.key, int64(test.ordinal)), got, test.name)
		assert.Equal(t, test.want, got, test.name)
	}
}

func TestIDsAreUUIDsAndDistinct(t *testing.T) {
	shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]string{}
	var g IDs
	note := func(what string) {
		for _, kind := range []IDKind{IDDecision, IDImpression, IDConversion, IDODPEvent} {
			for _, key := range []string{"", "a", "ab", "\x00"} {
				for ordinal := range 3 {
					id := g.Text(kind, key, ordinal)
					require.Regexp(t, shape, id)
					at := fmt.Sprintf("%s/%s/%q/%d", what, kind, key, ordinal)
					require.NotContains(t, seen, id, "%s and %s", at, seen[id])
					seen[strings.Clone(id)] = at
				}
			}
		}
	}
	// Neighbours that run together without framing.
	for _, stream := range []string{"", "s", "st"} {
		for _, s := range []Source{
			{Topic: "t", Partition: 1, Offset: 12}, {Topic: "t", Partition: 11, Offset: 2}, {Topic: "t", Partition: 1, Offset: -12},
			{Topic: "tt"}, {Topic: "t"}, {File: "t"}, {File: "t", Line: 1}, {File: ""},
		} {
			g.Start(stream, &s, "", false)
			note(fmt.Sprint(stream, s))
		}
		for _, own := range []string{"", "t", "tt"} {
			g.Start(stream, &Source{Topic: "t"}, own, true)
			note(fmt.Sprint(stream, "own", own))
		}
	}
	assert.Len(t, seen, 3*11*4*4*3)
}

func TestIDsWithOwnIDDoNotDependOnTheSource(t *testing.T) {
	var g IDs
	g.Start("s", &Source{Topic: "a", Partition: 1, Offset: 2}, "x", true)
	first := strings.Clone(g.Text(IDDecision, "", 0))
	g.Start("s", &Source{Topic: "a", Partition: 7, Offset: 9}, "x", true)
	assert.Equal(t, first, g.Text(IDDecision, "", 0))
}

func TestIDsTextsSurviveEachOther(t *testing.T) {
	var g IDs
	source := Source{Topic: "activities", Partition: 3, Offset: 1042}
	g.Start("s", &source, "", false)
	var texts, copies []string
	for i := range 100 {
		text := g.Text(IDImpression, "flag", i)
		texts, copies = append(texts, text), append(copies, strings.Clone(text))
	}
	assert.Equal(t, "activities/3/1042", g.SourceText(&source))
	assert.Equal(t, copies, texts)
	assert.Equal(t, "users.csv/12", g.SourceText(&Source{File: "users.csv", Line: 12}))
}

func TestIDsDoNotAllocate(t *testing.T) {
	var g IDs
	source := Source{Topic: "activities", Partition: 3, Offset: 1042}
	dst := make([]byte, 0, 64)
	allocs := testing.AllocsPerRun(100, func() {
		g.Start("main", &source, "", false)
		dst = g.Append(dst[:0], IDImpression, "checkout", 0)
		_ = g.Text(IDDecision, "", 0)
		_ = g.SourceText(&source)
	})
	assert.Zero(t, allocs)
}

func BenchmarkIDs(b *testing.B) {
	var g IDs
	source := Source{Topic: "activities", Partition: 3, Offset: 1042}
	var dst []byte
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.Start("main", &source, "", false)
			dst = g.Append(dst[:0], IDDecision, "", 0)
		}
	})
	b.Run("sha256-of-64-bytes", func(b *testing.B) {
		var text [64]byte
		for b.Loop() {
			sha256.Sum256(text[:])
		}
	})
}
