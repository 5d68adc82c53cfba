package datafile

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/decision"
)

// Real files and the system's own notices. Restat is an hour unless it is what is
// tested, so that a missed notice fails the test.

type watched struct {
	*File
	t *testing.T
	journal
	log safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func watch(t *testing.T, path string, restat time.Duration) *watched {
	t.Helper()
	w := &watched{t: t}
	logger := slog.New(slog.NewTextHandler(&w.log, nil))
	var err error
	w.File, err = NewFile(FileConfig{Path: path, Settle: 5 * time.Millisecond, Restat: restat, Options: Options{OnUpdate: w.note, Logger: logger}})
	require.NoError(t, err)
	assert.Nil(t, w.Current(), "constructors read nothing")
	run(t, w)
	return w
}

func (w *watched) reaches(revision string) {
	w.t.Helper()
	eventually(w.t, "revision "+revision, func() bool { return w.Status().Revision == revision && w.Status().Err == nil })
}

func (w *watched) fails() {
	w.t.Helper()
	eventually(w.t, "a failure", func() bool { return w.Status().Err != nil })
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// replace writes beside the file and renames, as careful programs do.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	write(t, path+".tmp", content)
	require.NoError(t, os.Rename(path+".tmp", path))
}

func TestFileReplacedByRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.json")
	write(t, path, text("1", ""))
	w := watch(t, path, time.Hour)
	w.reaches("1")
	for i := 2; i <= 20; i++ {
		replace(t, path, text(strconv.Itoa(i), ""))
		w.reaches(strconv.Itoa(i))
	}
	assert.Len(t, w.revisions(), 20)
	assert.Equal(t, OriginFile, w.Status().Origin)
}

func TestFileAsEditorsSaveIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.json")
	write(t, path, text("1", ""))
	w := watch(t, path, time.Hour)
	w.reaches("1")
	write(t, path, text("2", "in place")) // truncate and write
	w.reaches("2")
	require.NoError(t, os.Rename(path, path+"~")) // vim: keep the old one as a backup, write anew
	write(t, path, text("3", ""))
	w.reaches("3")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0) // in two pieces, far apart
	require.NoError(t, err)
	whole := text("4", "")
	_, err = f.Write(whole[:20])
	require.NoError(t, err)
	w.fails()
	assert.Equal(t, "3", w.Current().Revision())
	_, err = f.Write(whole[20:])
	require.NoError(t, err)
	require.NoError(t, f.Close())
	w.reaches("4")
	assert.Equal(t, []string{"→1", "1→2", "2→3", "3→4"}, w.revisions())
}

// A ConfigMap: the file is a link through ..data, which is renamed over.
func TestFileInAConfigMap(t *testing.T) {
	volume := t.TempDir()
	generation := func(n int) string { return "..2026_09_0" + strconv.Itoa(n) }
	publish := func(n int) {
		dir := filepath.Join(volume, generation(n))
		require.NoError(t, os.Mkdir(dir, 0o700))
		write(t, filepath.Join(dir, "datafile.json"), text(strconv.Itoa(n), ""))
		require.NoError(t, os.Symlink(generation(n), filepath.Join(volume, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")))
		if n > 1 {
			require.NoError(t, os.RemoveAll(filepath.Join(volume, generation(n-1))))
		}
	}
	publish(1)
	path := filepath.Join(volume, "datafile.json")
	require.NoError(t, os.Symlink(filepath.Join("..data", "datafile.json"), path))
	w := watch(t, path, time.Hour)
	w.reaches("1")
	for n := 2; n <= 8; n++ {
		publish(n)
		w.reaches(strconv.Itoa(n))
	}
	assert.Len(t, w.revisions(), 8)
	assert.NotContains(t, w.log.String(), "cannot watch")
}

// A release folder: a part of the path before the file's folder is a link.
func TestFileBehindALinkedFolder(t *testing.T) {
	root := t.TempDir()
	for _, n := range []string{"1", "2", "3"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "releases", n, "conf"), 0o700))
		write(t, filepath.Join(root, "releases", n, "conf", "d.json"), text(n, ""))
	}
	link := func(n string) {
		require.NoError(t, os.Symlink(filepath.Join(root, "releases", n), filepath.Join(root, "next")))
		require.NoError(t, os.Rename(filepath.Join(root, "next"), filepath.Join(root, "current")))
	}
	link("1")
	w := watch(t, filepath.Join(root, "current", "conf", "d.json"), time.Hour)
	w.reaches("1")
	link("2")
	w.reaches("2")
	link("3")
	w.reaches("3")
	replace(t, filepath.Join(root, "releases", "3", "conf", "d.json"), text("4", "")) // the watch has moved along
	w.reaches("4")
}

func TestFileMissingBrokenAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "datafile.json")
	w := watch(t, path, time.Hour)
	w.fails()
	require.ErrorIs(t, w.Status().Err, fs.ErrNotExist)
	require.ErrorIs(t, WaitReady(t.Context(), w, time.Millisecond), fs.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700)) // even its folder comes later
	replace(t, path, text("1", ""))
	w.reaches("1")
	require.NoError(t, os.Remove(path))
	w.fails()
	assert.Equal(t, "1", w.Current().Revision(), "what was installed stays")
	replace(t, path, []byte("{"))
	eventually(t, "the other failure", func() bool { return errors.As(w.Status().Err, new(*decision.DatafileError)) })
	replace(t, path, text("1", "the same revision"))
	w.reaches("1")
	replace(t, path, text("2", ""))
	w.reaches("2")
	assert.Equal(t, []string{"→1", "1→2"}, w.revisions())
}

// Where nothing is told (network file systems), looking finds it.
func TestFileRestat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.json")
	write(t, path, text("1", ""))
	w := &watched{t: t}
	var err error
	w.File, err = NewFile(FileConfig{Path: path, Settle: time.Hour, Restat: 5 * time.Millisecond}) // notices come to nothing
	require.NoError(t, err)
	run(t, w)
	w.reaches("1")
	replace(t, path, text("2", ""))
	w.reaches("2")
	write(t, path, text("3", "longer"))
	w.reaches("3")
	replace(t, path, []byte("broken"))
	w.fails()
	before := w.Status()
	eventually(t, "some looks", func() bool { return time.Since(before.LastAttempt) > 50*time.Millisecond })
	assert.Equal(t, before.Failures, w.Status().Failures, "as broken as before is no news")
}

func TestFileNeighboursDontMatter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "datafile.json")
	write(t, path, text("1", ""))
	w := watch(t, path, time.Hour)
	w.reaches("1")
	last := w.Status().LastAttempt
	for i := range 50 {
		write(t, filepath.Join(dir, "other"+strconv.Itoa(i)), nil)
	}
	replace(t, path, text("2", ""))
	w.reaches("2")
	assert.True(t, w.Status().LastAttempt.After(last))
	assert.Len(t, w.revisions(), 2)
}

func TestFileSizeLimitAndConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "datafile.json")
	write(t, path, text("1", ""))
	f, err := NewFile(FileConfig{Path: path, Options: Options{MaxSize: 20}})
	require.NoError(t, err)
	run(t, f)
	eventually(t, "a failure", func() bool { return f.Status().Err != nil })
	require.ErrorIs(t, f.Status().Err, ErrTooLarge)
	_, err = NewFile(FileConfig{Settle: -1})
	require.ErrorContains(t, err, "path is missing")
	require.ErrorContains(t, err, "negative")
}

func TestStepsOf(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	require.NoError(t, os.MkdirAll(at("a", "b"), 0o700))
	write(t, at("a", "b", "f"), nil)
	require.NoError(t, os.Symlink("../a/./b", at("a", "up")))
	require.NoError(t, os.Symlink(at("a", "up", "f"), at("link")))
	require.NoError(t, os.Symlink("loop", at("loop")))
	for path, want := range map[string][]string{
		at("a", "b", "f"):       {at("a", "b", "f")},
		at("link"):              {at("link"), at("a", "up"), at("a", "b", "f")},
		at("none", "x", "f"):    {at("none")},
		at("a", "up", "absent"): {at("a", "up"), at("a", "b", "absent")},
		at("loop"):              {at("loop")},
	} {
		steps := stepsOf(path)
		assert.Len(t, steps, len(want), path)
		for _, s := range want {
			assert.Contains(t, steps, s, path)
		}
	}
}
