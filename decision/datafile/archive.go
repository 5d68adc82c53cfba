package datafile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sortition/decision"
)

// An Archive keeps every datafile that came into force, in one folder:
//
//	<sha256>.json   the text of a datafile, named by its hash; never overwritten
//	index.ndjson    one line an [ArchiveEntry], in the order they came into force
//
// A text is brought to the disk before the line that names it, so every line has
// its text whenever the process, or the machine, stops. What a crash leaves of the
// last line is passed over when the archive is opened again.
//
// It belongs to one source of one process at a time; any number may read. Its
// methods are safe for concurrent use.
type Archive struct {
	dir string

	mu      sync.Mutex // guards what follows and the writing of files
	index   *os.File
	isTorn  bool // the index doesn't end with a line end
	damaged int
	entries []ArchiveEntry
}

// An ArchiveEntry says when a datafile came into force. It was in force until the
// next entry's time.
type ArchiveEntry struct {
	Digest      string    `json:"digest"` // as [decision.Project.Digest]
	Revision    string    `json:"revision"`
	ProjectID   string    `json:"project_id"`
	Environment string    `json:"environment,omitempty"`
	InForceFrom time.Time `json:"in_force_from"`
	Size        int       `json:"size"` // bytes
}

// ErrNotArchived is wrapped when the archive has no such datafile.
var ErrNotArchived = errors.New("datafile is not in the archive")

// OpenArchive opens the archive in dir, which is created if need be. Close it.
func OpenArchive(dir string) (*Archive, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open datafile archive: %w", err)
	}
	if err := removeTemporaries(dir); err != nil {
		return nil, fmt.Errorf("open datafile archive: %w", err)
	}
	a := &Archive{dir: dir}
	if err := a.openIndex(); err != nil {
		return nil, fmt.Errorf("open datafile archive: %w", err)
	}
	return a, nil
}

// Close closes the index. Nothing is lost without it.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index == nil {
		return nil
	}
	err := a.index.Close()
	a.index = nil
	return err
}

// Put records that p came into force at a time, and returns when text and line are
// on the disk. If p was the last to come into force already, nothing is written:
// it still is.
func (a *Archive) Put(p *decision.Project, at time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := ArchiveEntry{
		Digest: p.Digest(), Revision: p.Revision(), ProjectID: p.ProjectID(), Environment: p.EnvironmentKey(),
		InForceFrom: at.UTC(), Size: len(p.Datafile()),
	}
	if a.index == nil {
		return fmt.Errorf("archive datafile: %w", os.ErrClosed)
	}
	if n := len(a.entries); n > 0 && a.entries[n-1].Digest == e.Digest {
		return nil
	}
	path, err := a.path(e.Digest)
	if err != nil {
		return fmt.Errorf("archive datafile: %w", err)
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		err = writeFile(path, p.Datafile())
		if err != nil {
			return fmt.Errorf("archive datafile: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("archive datafile: %w", err)
	} else if _, err := a.read(e.Digest); err != nil {
		return fmt.Errorf("archive datafile: %w", err) // it stays, for somebody to look at
	}
	if err := a.append(e); err != nil {
		return fmt.Errorf("archive datafile: %w", err)
	}
	a.entries = append(a.entries, e)
	return nil
}

// Entries lists what came into force, in that order.
func (a *Archive) Entries() []ArchiveEntry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.entries)
}

// Damaged is the number of index lines that could not be read.
func (a *Archive) Damaged() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.damaged
}

// At returns the datafile in force at a time.
func (a *Archive) At(t time.Time) (e ArchiveEntry, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range slices.Backward(a.entries) {
		if !x.InForceFrom.After(t) {
			return x, true
		}
	}
	return ArchiveEntry{}, false
}

// Read returns the text of a datafile by its digest ("sha256:" and 64 hex digits).
// The error wraps [ErrNotArchived], or [ErrCorrupt] if the text has changed.
func (a *Archive) Read(digest string) ([]byte, error) {
	text, err := a.read(digest)
	if err != nil {
		return nil, fmt.Errorf("read archived datafile: %w", err)
	}
	return text, nil
}

func (a *Archive) read(digest string) ([]byte, error) {
	path, err := a.path(digest)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %s", ErrNotArchived, digest)
	case err != nil:
		return nil, err
	case digestOf(text) != digest:
		return nil, fmt.Errorf("%s: %w", digest, ErrCorrupt)
	}
	return text, nil
}

// path is where a digest's text is. Only digests make paths.
func (a *Archive) path(digest string) (string, error) {
	name, ok := strings.CutPrefix(digest, digestPrefix)
	if sum, err := hex.DecodeString(name); !ok || err != nil || len(sum) != sha256.Size || name != strings.ToLower(name) {
		return "", fmt.Errorf("%w: %q is no digest", ErrNotArchived, digest)
	}
	return filepath.Join(a.dir, name+".json"), nil
}

const digestPrefix = "sha256:"

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return digestPrefix + hex.EncodeToString(sum[:])
}
