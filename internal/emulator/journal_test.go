package emulator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
	"sortition/sinks"
)

// in runs an emulator over a folder and ends it.
func in(t *testing.T, dir string, work func(em *emulator.Server), change ...func(*emulator.Options)) {
	t.Run("", func(t *testing.T) {
		work(start(t, append(change, func(o *emulator.Options) { o.Dir = dir })...))
	})
}

func TestDataIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	var before []emulator.Attempt
	var counts emulator.Counts
	in(t, dir, func(em *emulator.Server) {
		em.Script("/v1/events", 500)
		post(t, em, "/v1/events", body(1), "Authorization", "SECRET")
		post(t, em, "/v1/events", body(1))
		post(t, em, "/v1/events", body(1))
		post(t, em, "/v1/events", "\xff{")
		post(t, em, "/v3/graphql", "{}", "X-Api-Key", "SECRET")
		_, err := em.SetDatafile("K", revision(9), emulator.LastModified("A"), emulator.ETag(""))
		require.NoError(t, err)
		_, err = em.SetDatafile("SdkKeyDemo1", revision(8))
		require.NoError(t, err)
		require.NoError(t, em.SetSegments("u", "vip"))
		require.NoError(t, em.SetSegmentRule(emulator.SegmentRule{Unknown: true}))
		require.NoError(t, em.SetPrediction("30002", "u", "50012"))
		before, counts = em.Attempts(""), em.Counts()
	})
	in(t, dir, func(em *emulator.Server) {
		after := em.Attempts("")
		require.Len(t, after, len(before))
		for i := range after {
			assert.Equal(t, string(before[i].Body), string(after[i].Body))
			assert.Equal(t, before[i].Problems, after[i].Problems)
			assert.Equal(t, before[i].Visitors, after[i].Visitors)
			assert.Equal(t, before[i].Seq, after[i].Seq)
			assert.Equal(t, before[i].Accepted, after[i].Accepted)
		}
		assert.Equal(t, counts, em.Counts())
		assert.Equal(t, map[string]int{uuid(1): 2}, em.UUIDs())
		r := get(t, em, "/datafiles/K.json")
		assert.Equal(t, string(revision(9)), r.body)
		assert.Equal(t, "A", r.header.Get("Last-Modified"))
		assert.Empty(t, r.header.Get("ETag"))
		assert.Equal(t, string(revision(8)), get(t, em, "/datafiles/SdkKeyDemo1.json").body, "what was set stays, the start's datafile is the same")
		assert.JSONEq(t, edges("vip", "qualified"), askSegments(t, em, "u", "vip").body)
		assert.Contains(t, askSegments(t, em, "other", "vip").body, "INVALID_IDENTIFIER")
		assert.Contains(t, post(t, em, "/predict/30002", predictionRequest("u", "x")).body, "50012")
		// The validator remembers too.
		post(t, em, "/v1/events", strings.Replace(body(1), "user-1", "other", 1))
		assert.Equal(t, int64(1), em.Counts().Problems[sinks.CodeUUIDConflict])
		next := em.Attempts("")
		assert.Equal(t, before[len(before)-1].Seq+6, next[len(next)-1].Seq, "numbers go on")
	})
	in(t, dir, func(em *emulator.Server) {
		assert.Equal(t, string(revision(10)), get(t, em, "/datafiles/SdkKeyDemo1.json").body, "a new datafile at the start is served")
		require.NoError(t, em.Clear())
	}, func(o *emulator.Options) { o.Datafile = revision(10) })
	in(t, dir, func(em *emulator.Server) {
		assert.Empty(t, em.Attempts("")) // the datafile's request was before the clearing
		assert.Empty(t, em.UUIDs())
	})
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "SECRET")
	}
}

// A process that is killed amid a line leaves a part of it.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	in(t, dir, func(em *emulator.Server) {
		for n := range 3 {
			post(t, em, "/v1/events", body(n))
		}
	})
	name := filepath.Join(dir, "received-000001.ndjson")
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	require.Len(t, lines, 4)
	complete := len(lines[0]) + len(lines[1])
	for _, size := range []int{complete, complete + 1, complete + len(lines[2])/2, len(whole) - 1} {
		require.NoError(t, os.WriteFile(name, whole[:size], 0o600))
		in(t, dir, func(em *emulator.Server) {
			assert.Len(t, em.Received(), 2)
			post(t, em, "/v1/events", body(9))
			assert.Len(t, em.Received(), 3)
		})
		in(t, dir, func(em *emulator.Server) { assert.Len(t, em.Received(), 3, "the next line is whole") })
	}
	// A line damaged otherwise is passed over.
	require.NoError(t, os.WriteFile(name, []byte(lines[0]+"damaged\n"+lines[2]), 0o600))
	in(t, dir, func(em *emulator.Server) { assert.Len(t, em.Received(), 2) })
}

func TestFilesGoOn(t *testing.T) {
	dir := t.TempDir()
	small := func(o *emulator.Options) { o.FileBytes = 1500 }
	for round := range 3 {
		in(t, dir, func(em *emulator.Server) {
			assert.Len(t, em.UUIDs(), 5*round)
			for n := range 5 {
				post(t, em, "/v1/events", body(10*round+n))
			}
			assert.Equal(t, int64(5*round+5), em.Received()[5*round+4].Seq)
		}, small)
	}
	files, err := filepath.Glob(filepath.Join(dir, "received-*.ndjson"))
	require.NoError(t, err)
	assert.Greater(t, len(files), 3)
	for _, name := range files {
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Less(t, info.Size(), int64(3000))
	}
	in(t, dir, func(em *emulator.Server) {
		assert.Len(t, em.UUIDs(), 15)
		require.NoError(t, em.Clear())
	}, small)
	files, err = filepath.Glob(filepath.Join(dir, "received-*.ndjson"))
	require.NoError(t, err)
	assert.Len(t, files, 1)
}

// Nothing is acknowledged that could not be kept.
func TestFilesFail(t *testing.T) {
	e, err := emulator.New(emulator.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	s, err := emulator.Listen(e, "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, e.Close()) // its files are closed under it
	serve(t, s)
	assert.Equal(t, 500, post(t, s, "/v1/events", body(1)).status)
	assert.Empty(t, s.Received())
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err := emulator.New(emulator.Options{Dir: filepath.Join(dir, "file")})
	assert.Error(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600))
	_, err = emulator.New(emulator.Options{Dir: dir})
	assert.Error(t, err)
}
