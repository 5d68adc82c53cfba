package datafile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// indexName is the file that lists an archive's entries.
const indexName = "index.ndjson"

// openIndex reads the index and leaves it open for appending.
func (a *Archive) openIndex() error {
	f, err := os.OpenFile(filepath.Join(a.dir, indexName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err == nil {
		err = syncDir(a.dir) // the index may be new
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.index = f
	a.isTorn = len(text) > 0 && text[len(text)-1] != '\n'
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var e ArchiveEntry
		if json.Unmarshal(line, &e) != nil || e.Digest == "" || e.InForceFrom.IsZero() {
			a.damaged++
			continue
		}
		a.entries = append(a.entries, e)
	}
	return nil
}

// append brings one line to the disk. After a line that was cut short it first
// ends that one, so that the new line can be read.
func (a *Archive) append(e ArchiveEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if a.isTorn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := a.index.Write(line)
	if err != nil {
		a.isTorn = a.isTorn || n > 0
		return err
	}
	a.isTorn = false
	return a.index.Sync()
}
