package datafile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// temporary begins the names of files being written; they are hidden, and what is
// found of them after a crash is worthless.
const temporary = ".partial-"

// writeFile makes path hold exactly content, or leaves it as it was: a temporary
// file beside it is brought to the disk and renamed, then the folder is brought
// to the disk too. The file can be read by its owner and group only.
func writeFile(path string, content ...[]byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return err
	}
	err = errors.Join(fill(f, content), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	// The file is complete under its name; a loss of power could still undo that.
	return syncDir(dir)
}

func fill(f *os.File, content [][]byte) error {
	if err := f.Chmod(0o640); err != nil {
		return err
	}
	for _, part := range content {
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeTemporaries removes what earlier writers left behind in dir.
func removeTemporaries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporary) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
