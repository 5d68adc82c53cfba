package fileio

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// names lists the files of a folder, hidden ones included.
func names(t *testing.T, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// What is written can be read again, by name and by content, however it is packed.
func TestRoundTrip(t *testing.T) {
	text := bytes.Repeat([]byte("a line of text\n"), 50_000)
	for _, name := range []string{"a.txt", "a.gz", "a.zst", "A.GZ"} {
		for _, data := range [][]byte{nil, text} {
			path := filepath.Join(t.TempDir(), name)
			o, err := Create(path, nil)
			require.NoError(t, err)
			for part := data; len(part) > 0; {
				n := min(len(part), 7777)
				_, err = o.Write(part[:n])
				require.NoError(t, err)
				part = part[n:]
			}
			require.NoError(t, Publish(o))
			o.Discard() // has no effect any more
			got, err := ReadFile(path, 1<<30)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), name)

			nameless := filepath.Join(filepath.Dir(path), "nameless")
			require.NoError(t, os.Rename(path, nameless))
			got, err = ReadFile(nameless, 1<<30)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), name)
			if data != nil {
				_, err = ReadFile(nameless, 100)
				require.ErrorContains(t, err, "larger than")
			}
		}
	}
}

func TestInputCountsStoredBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gz")
	o, err := Create(path, nil)
	require.NoError(t, err)
	_, err = o.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, Publish(o))
	info, err := os.Stat(path)
	require.NoError(t, err)
	in, err := Open(path, nil)
	require.NoError(t, err)
	defer in.Close()
	n, err := io.Copy(io.Discard, in)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), n)
	require.Equal(t, info.Size(), in.Consumed())
	require.Less(t, in.Consumed(), int64(1<<16))
}

// Until Publish, an output leaves its place alone; after Discard nothing of it is
// left.
func TestOutputAppearsWhenComplete(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o640))
	o, err := Create(path, nil)
	require.NoError(t, err)
	_, err = o.Write([]byte("new"))
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(text))
	require.Len(t, names(t, dir), 2)
	o.Discard()
	require.Equal(t, []string{"out"}, names(t, dir))

	o, err = Create(path, nil)
	require.NoError(t, err)
	other, err := Create(filepath.Join(dir, "other"), nil)
	require.NoError(t, err)
	_, err = o.Write([]byte("new"))
	require.NoError(t, err)
	require.NoError(t, Publish(o, nil, other))
	require.Equal(t, []string{"other", "out"}, names(t, dir))
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode())
}

// When one of several outputs can't be completed, none appears.
func TestPublishAllOrNone(t *testing.T) {
	dir := t.TempDir()
	first, err := Create(filepath.Join(dir, "first"), nil)
	require.NoError(t, err)
	second, err := Create(filepath.Join(dir, "second"), nil)
	require.NoError(t, err)
	require.NoError(t, second.file.Close())
	require.ErrorContains(t, Publish(first, second), "write "+filepath.Join(dir, "second"))
	first.Discard()
	second.Discard()
	require.Empty(t, names(t, dir))
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Create(dir, nil)
	require.ErrorContains(t, err, "is a directory")
	_, err = Create(filepath.Join(dir, "no", "file"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotContains(t, err.Error(), ".tmp")
	require.Empty(t, names(t, dir))
}

func TestIsSame(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(a, nil, 0o666))
	require.NoError(t, os.Symlink(a, filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "folder")))
	same := func(x, y string) bool { return IsSame(filepath.Join(dir, x), filepath.Join(dir, y)) }
	require.True(t, same("a", "a"))
	require.True(t, same("a", "link"))
	require.True(t, same("folder/a", "a"))
	require.True(t, same("folder/new", "new"))
	require.False(t, same("a", "new"))
	require.False(t, same("new", "new2"))
	require.False(t, IsSame(Stdin, Stdin))
}
