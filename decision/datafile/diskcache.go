package datafile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// A diskCache is the file that outlives a poller: one line about the datafile,
// then its text.
type diskCache struct {
	path   string
	origin string // digest of the address it was fetched from: another key's datafile isn't ours
	saved  string // digest of what the file holds, if that is known
}

// cached is the first line of the file.
type cached struct {
	Format       int       `json:"format"` // 1
	Origin       string    `json:"origin"`
	Digest       string    `json:"digest"`
	ReceivedAt   time.Time `json:"received_at"`
	LastModified string    `json:"last_modified,omitempty"`
	ETag         string    `json:"etag,omitempty"`
}

// save replaces the cached datafile, unless it is this one.
func (c *diskCache) save(text []byte, v validators, received time.Time) error {
	digest := digestOf(text)
	if c.saved == digest {
		return nil
	}
	head, err := json.Marshal(cached{
		Format: 1, Origin: c.origin, Digest: digest, ReceivedAt: received.UTC(), LastModified: v.lastModified, ETag: v.etag,
	})
	if err == nil {
		err = writeFile(c.path, append(head, '\n'), text)
	}
	if err != nil {
		return fmt.Errorf("write datafile cache: %w", err)
	}
	c.saved = digest
	return nil
}

// load returns the cached datafile. A missing file is an error that wraps
// os.ErrNotExist.
func (c *diskCache) load(limit int64) (text []byte, about cached, err error) {
	f, err := os.Open(c.path)
	if err != nil {
		return nil, about, fmt.Errorf("read datafile cache: %w", err)
	}
	defer f.Close()
	content, err := readLimited(f, limit+4096)
	if err != nil {
		return nil, about, fmt.Errorf("read datafile cache: %w", err)
	}
	head, text, _ := bytes.Cut(content, []byte{'\n'})
	switch err := json.Unmarshal(head, &about); {
	case err != nil || about.Format != 1 || about.Digest != digestOf(text):
		return nil, about, fmt.Errorf("read datafile cache: %w", ErrCorrupt)
	case about.Origin != c.origin:
		return nil, about, errors.New("read datafile cache: it holds the datafile of another address")
	}
	return text, about, nil
}
