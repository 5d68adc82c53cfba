package datafile

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

func openArchive(t *testing.T, dir string) *Archive {
	t.Helper()
	a, err := OpenArchive(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func project(t *testing.T, revision, note string) *decision.Project {
	t.Helper()
	p, err := decision.Compile(text(revision, note))
	require.NoError(t, err)
	return p
}

func revisionsOf(entries []ArchiveEntry) (list []string) {
	for _, e := range entries {
		list = append(list, e.Revision)
	}
	return list
}

func TestArchive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "archive")
	a := openArchive(t, dir)
	noon := time.Date(2026, 9, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	one, two := project(t, "1", ""), project(t, "2", "")
	require.NoError(t, a.Put(one, noon))
	require.NoError(t, a.Put(one, noon.Add(time.Minute)), "still in force")
	require.NoError(t, a.Put(two, noon.Add(time.Hour)))
	require.NoError(t, a.Put(one, noon.Add(2*time.Hour)), "back again")
	check := func(a *Archive) {
		entries := a.Entries()
		assert.Equal(t, []string{"1", "2", "1"}, revisionsOf(entries))
		assert.Equal(t, ArchiveEntry{
			Digest: one.Digest(), Revision: "1", ProjectID: "880022", InForceFrom: noon.UTC(), Size: len(one.Datafile()),
		}, entries[0])
		content, err := a.Read(two.Digest())
		require.NoError(t, err)
		assert.Equal(t, string(two.Datafile()), string(content))
		for offset, want := range map[time.Duration]string{0: "1", 59 * time.Minute: "1", time.Hour: "2", 100 * time.Hour: "1"} {
			e, ok := a.At(noon.Add(offset))
			assert.True(t, ok)
			assert.Equal(t, want, e.Revision)
		}
		_, ok := a.At(noon.Add(-1))
		assert.False(t, ok)
	}
	check(a)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Put(two, noon), os.ErrClosed)
	check(openArchive(t, dir))
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	assert.Len(t, names, 3, "two texts and the index")
	assert.FileExists(t, filepath.Join(dir, strings.TrimPrefix(one.Digest(), "sha256:")+".json"))
}

func TestArchiveReadsOnlyDigests(t *testing.T) {
	a := openArchive(t, t.TempDir())
	for _, digest := range []string{"", "sha256:", "sha256:../../etc/passwd", "sha256:" + strings.Repeat("A", 64), strings.Repeat("a", 64), "sha256:" + strings.Repeat("0", 64)} {
		_, err := a.Read(digest)
		require.ErrorIs(t, err, ErrNotArchived)
	}
}

func TestArchiveNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir)
	p := project(t, "1", "")
	path := filepath.Join(dir, strings.TrimPrefix(p.Digest(), "sha256:")+".json")
	write(t, path, []byte("not what the name says"))
	require.ErrorIs(t, a.Put(p, time.Now()), ErrCorrupt)
	_, err := a.Read(p.Digest())
	require.ErrorIs(t, err, ErrCorrupt)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "not what the name says", string(content))
	assert.Empty(t, a.Entries())
}

// Whatever a crash leaves of the last line, the archive opens, keeps what was
// complete, and takes more.
func TestArchiveTornIndex(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir)
	require.NoError(t, a.Put(project(t, "1", ""), time.Now()))
	require.NoError(t, a.Put(project(t, "2", ""), time.Now()))
	require.NoError(t, a.Close())
	path := filepath.Join(dir, indexName)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	first := strings.Index(string(whole), "\n") + 1
	for cut := first; cut <= len(whole); cut++ {
		write(t, path, whole[:cut])
		a, err := OpenArchive(dir)
		require.NoError(t, err)
		want, damaged := []string{"1"}, 1
		if cut >= len(whole)-1 { // nothing lost but, at most, the line end
			want = append(want, "2")
		}
		if cut == first || cut >= len(whole)-1 {
			damaged = 0
		}
		assert.Equal(t, want, revisionsOf(a.Entries()))
		assert.Equal(t, damaged, a.Damaged())
		require.NoError(t, a.Put(project(t, "3", ""), time.Now()))
		require.NoError(t, a.Close())
		a, err = OpenArchive(dir)
		require.NoError(t, err)
		assert.Equal(t, append(want, "3"), revisionsOf(a.Entries()), "cut at %d", cut)
		require.NoError(t, a.Close())
	}
}

func TestArchiveRemovesUnfinishedFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, temporary+"123"), []byte("half"))
	openArchive(t, dir)
	assert.NoFileExists(t, filepath.Join(dir, temporary+"123"))
}

func TestSourceArchives(t *testing.T) {
	a := openArchive(t, t.TempDir())
	p := poll(t, func(c *PollConfig) { c.Archive, c.Datafile = a, text("1", "") }, step{body: text("1", "x")}, step{body: text("2", "")}, step{body: []byte("{")})
	p.again()
	p.again()
	entries := a.Entries()
	assert.Equal(t, []string{"1", "2"}, revisionsOf(entries))
	assert.True(t, p.updates[1].At.Equal(entries[1].InForceFrom), "the time it came into force")
	require.NoError(t, p.Status().ArchiveErr)
}

// An archive that can't be written holds up no update, and is caught up later.
func TestArchiveThatFails(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir)
	blocked := filepath.Join(dir, strings.TrimPrefix(project(t, "1", "").Digest(), "sha256:")+".json")
	require.NoError(t, os.Mkdir(blocked, 0o700))
	p := poll(t, func(c *PollConfig) { c.Archive = a }, step{body: text("1", "")}, step{body: text("2", "")})
	assert.Equal(t, "1", p.Current().Revision())
	require.Error(t, p.Status().ArchiveErr)
	p.again()
	assert.Equal(t, "2", p.Current().Revision())
	require.Error(t, p.Status().ArchiveErr)
	require.NoError(t, os.Remove(blocked))
	p.again()
	require.NoError(t, p.Status().ArchiveErr)
	assert.Equal(t, []string{"1", "2"}, revisionsOf(a.Entries()))
}

// A process is killed while it archives, again and again; what it was told is
// archived must be there, whole.
func TestArchiveSurvivesKilling(t *testing.T) {
	const env = "SORTITION_TEST_ARCHIVE"
	if dir := os.Getenv(env); dir != "" {
		archiveUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	acknowledged := []string{}
	for round := range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestArchiveSurvivesKilling$", "-test.count=1")
		child.Env = append(os.Environ(), env+"="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			if digest, ok := strings.CutPrefix(lines.Text(), "archived "); ok {
				acknowledged = append(acknowledged, digest)
				if n++; n == 3+5*round {
					require.NoError(t, child.Process.Kill())
				}
			}
		}
		require.Error(t, child.Wait(), "killed")
		a, err := OpenArchive(dir)
		require.NoError(t, err)
		listed := map[string]bool{}
		for _, e := range a.Entries() {
			_, err := a.Read(e.Digest)
			require.NoError(t, err)
			listed[e.Digest] = true
		}
		for _, digest := range acknowledged {
			require.True(t, listed[digest])
		}
		require.NoError(t, a.Close())
	}
	assert.Greater(t, len(acknowledged), 8*3)
}

func archiveUntilKilled(t *testing.T, dir string) {
	a, err := OpenArchive(dir)
	require.NoError(t, err)
	start := len(a.Entries())
	for i := start; i < start+10_000; i++ {
		p := project(t, strconv.Itoa(i), strings.Repeat("x", 1000))
		require.NoError(t, a.Put(p, time.Now()))
		fmt.Println("archived " + p.Digest())
	}
}
