package decision

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sortition/internal/sample"

	"github.com/stretchr/testify/require"
)

// The unit of the speed floors is SHA-256 over 64 bytes, measured in the same
// run: absolute times mean little on shared machines. Each benchmark reports its
// time as a multiple of it ("x-sha256").

// unitRounds is how many times SHA-256 is measured at once.
const unitRounds = 3000

// reportRatio runs rounds of op and of SHA-256 by turns and reports the fastest
// round of one as a multiple of the fastest of the other, which other work on
// the machine disturbs least: the rounds are shorter than what a busy machine
// lets a process run in one go. 3,000 operations meet every pair of 1,000 users
// and 60 flags that there is.
func reportRatio(b *testing.B, perRound int, op func(i int)) {
	var block [64]byte
	ours, unit := time.Hour, time.Hour
	for range 75 {
		start := time.Now()
		for i := range perRound {
			op(i)
		}
		ours = min(ours, time.Since(start))
		start = time.Now()
		for range unitRounds {
			sum := sha256.Sum256(block[:])
			block[0] = sum[0]
		}
		unit = min(unit, time.Since(start))
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(perRound)/(float64(unit.Nanoseconds())/unitRounds), "x-sha256")
}

// corpusUsers returns the first n users of the corpus that have something set.
func corpusUsers(tb testing.TB, n int) []vector {
	var out []vector
	eachLine(tb, filepath.Join(vectorFolder, "cases-01.ndjson.gz"), func(line []byte) {
		var v vector
		require.NoError(tb, json.Unmarshal(line, &v))
		if len(out) < n {
			out = append(out, v)
		}
	})
	require.Len(tb, out, n)
	return out
}

// An input is a decoded activity's user: what setting one up starts from.
type input struct {
	id         string
	attributes []struct {
		key     string
		kind    Kind
		isTrue  bool
		literal string
	}
	segments []string
	hasAny   bool
}

// inputs takes users apart as a decoder would have them: kinds and texts.
func inputs(users []vector) []input {
	out := make([]input, len(users))
	for i := range users {
		in := &out[i]
		in.id = users[i].UserID
		for key, raw := range users[i].Attributes {
			v := valueOf(raw)
			in.attributes = append(in.attributes, struct {
				key     string
				kind    Kind
				isTrue  bool
				literal string
			}{key, v.kind, v.isTrue, v.text})
		}
		if users[i].Segments != nil {
			in.segments, in.hasAny = *users[i].Segments, true
		}
	}
	return out
}

func (in *input) setUp(u *User, p *Project) {
	u.Reset(p, in.id)
	for i := range in.attributes {
		a := &in.attributes[i]
		var v Value
		switch a.kind {
		case KindNull:
		case KindBool:
			v = Bool(a.isTrue)
		case KindNumber:
			v = Number(a.literal)
		case KindString:
			v = String(a.literal)
		case KindComposite:
			v = Composite(a.literal)
		}
		u.SetAttribute(a.key, v)
	}
	if in.hasAny {
		u.SetSegments(in.segments)
	}
}

func benchProjects(b *testing.B) map[string]*Project {
	ps := &projects{folder: vectorFolder}
	out := map[string]*Project{"3": ps.get(b, "g01.json"), "60": ps.get(b, "g30.json")}
	p, err := Compile(sample.Datafile(1, 1000))
	require.NoError(b, err)
	out["1000"] = p
	return out
}

// BenchmarkDecideOne decides one flag for users that are set up, mixed: another
// user and another flag each time. What a user remembers of audiences is dropped
// before each decision, so that nothing is answered from an earlier one.
func BenchmarkDecideOne(b *testing.B) {
	for _, flags := range []string{"3", "60", "1000"} {
		b.Run("flags="+flags, func(b *testing.B) {
			p := benchProjects(b)[flags]
			in := inputs(corpusUsers(b, 1000))
			users := make([]User, len(in))
			for i := range in {
				in[i].setUp(&users[i], p)
			}
			ctx := context.Background()
			op := func(i int) {
				u := &users[i%len(users)]
				u.forget()
				d := p.Decide(ctx, u, p.flags[i%len(p.flags)].key, 0, nil)
				sink = d.Enabled()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				op(i)
			}
			reportRatio(b, 3000, op)
		})
	}
}

// BenchmarkDecideOneSetUp is the same with the user set up from a decoded
// activity each time.
func BenchmarkDecideOneSetUp(b *testing.B) {
	for _, flags := range []string{"3", "60", "1000"} {
		b.Run("flags="+flags, func(b *testing.B) {
			p := benchProjects(b)[flags]
			in := inputs(corpusUsers(b, 1000))
			var u User
			ctx := context.Background()
			op := func(i int) {
				in[i%len(in)].setUp(&u, p)
				d := p.Decide(ctx, &u, p.flags[i%len(p.flags)].key, 0, nil)
				sink = d.Enabled()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				op(i)
			}
			reportRatio(b, 3000, op)
		})
	}
}

// BenchmarkDecideAll decides every flag into a slice that has room.
func BenchmarkDecideAll(b *testing.B) {
	for _, flags := range []string{"3", "60", "1000"} {
		b.Run("flags="+flags, func(b *testing.B) {
			p := benchProjects(b)[flags]
			in := inputs(corpusUsers(b, 1000))
			users := make([]User, len(in))
			for i := range in {
				in[i].setUp(&users[i], p)
			}
			dst := make([]Decision, 0, p.NumFlags())
			ctx := context.Background()
			op := func(i int) {
				u := &users[i%len(users)]
				u.forget()
				dst = p.DecideAll(ctx, dst[:0], u, 0, nil)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				op(i)
			}
			reportRatio(b, 1000, op)
		})
	}
}

var sink bool

// BenchmarkCompile compiles generated datafiles and reports the time as a
// multiple of decoding the same text into any ("x-json").
func BenchmarkCompile(b *testing.B) {
	for _, flags := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			raw := sample.Datafile(1, flags)
			b.SetBytes(int64(len(raw)))
			unmarshal := func() time.Duration {
				best := time.Hour
				for range 3 {
					start := time.Now()
					var v any
					require.NoError(b, json.Unmarshal(raw, &v))
					best = min(best, time.Since(start))
				}
				return best
			}
			unit := unmarshal()
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if _, err := Compile(raw); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			unit = min(unit, unmarshal())
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(unit.Nanoseconds()), "x-json")
		})
	}
}

// BenchmarkImpression renders one impression for a user who is set up.
func BenchmarkImpression(b *testing.B) {
	p := benchProjects(b)["60"]
	in := inputs(corpusUsers(b, 1000))
	var u User
	in[0].setUp(&u, p)
	decisions := p.DecideAll(context.Background(), nil, &u, 0, nil)
	var impressions []Impression
	var dst []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		impressions = AppendImpressions(impressions[:0], decisions[i%60:i%60+1])
		for k := range impressions {
			dst = impressions[k].AppendVisitor(dst[:0], &u, testUUID, 1790000000000)
		}
	}
}
