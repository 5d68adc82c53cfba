package sinks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// RefusedFile is the name of the file, in an outbox's folder, of the batches that
// were refused for good: JSON lines as [RefusedBatch] renders them, oldest first.
const RefusedFile = "refused.ndjson"

// A RefusedBatch is a batch of which some or all visitors were refused for good.
type RefusedBatch struct {
	Seq       uint64        `json:"seq"` // the number Append gave it
	ID        string        `json:"id,omitempty"`
	Time      time.Time     `json:"time"` // when it was settled
	Endpoint  string        `json:"endpoint"`
	Delivered int           `json:"delivered"` // visitors of it that were accepted
	Refused   int           `json:"refused"`   // visitors of it that were not
	Parts     []RefusedPart `json:"parts"`     // more than one only after a 413
}

// A RefusedPart is what was posted and refused.
type RefusedPart struct {
	Visitors int         `json:"visitors"`
	Status   int         `json:"status,omitempty"` // 0: there was no answer
	Reason   string      `json:"reason"`
	Answer   string      `json:"answer,omitempty"` // the beginning of the server's answer
	Body     RefusedBody `json:"body"`
}

// RefusedBody is a body exactly as it was posted: in JSON a string, or
// {"base64": "…"} if it isn't UTF-8.
type RefusedBody []byte

type encodedBody struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON renders the body.
func (b RefusedBody) MarshalJSON() ([]byte, error) {
	if utf8.Valid(b) {
		return marshal(string(b))
	}
	return marshal(encodedBody{b})
}

// UnmarshalJSON reads the body.
func (b *RefusedBody) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*b = RefusedBody(text)
		return nil
	}
	var encoded encodedBody
	err := json.Unmarshal(data, &encoded)
	*b = encoded.Base64
	return err
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// cleared is the file's first line after ClearRefused: what was in it before.
type cleared struct {
	Cleared *Tally `json:"cleared"`
}

// refusedFile is the open file and what is in it.
type refusedFile struct {
	file  *os.File
	size  int64
	tally Tally // with what was cleared
	seqs  map[uint64]bool
}

// openRefused opens the file, or creates it. A last line that isn't complete was
// never counted, and is cut off.
func openRefused(dir string) (*refusedFile, error) {
	path := filepath.Join(dir, RefusedFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f := &refusedFile{file: file, seqs: map[uint64]bool{}}
	in := bufio.NewReaderSize(file, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = f.count(line)
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		f.size += int64(len(line))
	}
	if err := file.Truncate(f.size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

func (f *refusedFile) count(line []byte) error {
	if f.size == 0 {
		var head cleared
		if json.Unmarshal(line, &head) == nil && head.Cleared != nil {
			f.tally = *head.Cleared
			return nil
		}
	}
	var batch RefusedBatch
	if json.Unmarshal(line, &batch) != nil || batch.Seq == 0 {
		return fmt.Errorf("%w: %s: not a refused batch at byte %d", ErrDamaged, RefusedFile, f.size)
	}
	f.seqs[batch.Seq] = true
	f.tally.add(batch.Refused)
	return nil
}

// append brings a batch to the disk.
func (f *refusedFile) append(batch *RefusedBatch) error {
	line, err := marshal(batch)
	if err != nil {
		return fmt.Errorf("keep refused batch: %w", err)
	}
	line = append(line, '\n')
	if _, err = f.file.WriteAt(line, f.size); err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep refused batch: %w", err), f.file.Truncate(f.size))
	}
	f.size += int64(len(line))
	f.tally.add(batch.Refused)
	return nil
}

// Refused reads the batches refused for good, oldest first: those there are when
// it is called. Safe for concurrent use.
func (o *Outbox) Refused() iter.Seq2[RefusedBatch, error] {
	o.mu.Lock()
	size, closed := o.refused.size, o.isClosed
	o.mu.Unlock()
	return func(yield func(RefusedBatch, error) bool) {
		if closed {
			yield(RefusedBatch{}, fmt.Errorf("read refused batches: outbox: %w", ErrClosed))
			return
		}
		// Opened anew: ClearRefused replaces the file.
		file, err := os.Open(filepath.Join(o.dir, RefusedFile))
		if err != nil {
			yield(RefusedBatch{}, fmt.Errorf("read refused batches: %w", err))
			return
		}
		defer file.Close()
		in := json.NewDecoder(bufio.NewReader(io.LimitReader(file, size)))
		for in.More() {
			var line struct {
				cleared
				RefusedBatch
			}
			if err := in.Decode(&line); err != nil {
				yield(RefusedBatch{}, fmt.Errorf("read refused batches: %w", err))
				return
			}
			if line.Cleared == nil && !yield(line.RefusedBatch, nil) {
				return
			}
		}
	}
}

// ClearRefused forgets the refused batches, whose place is free then; the account
// goes on counting them. Whoever wants to keep them copies [RefusedFile] before.
func (o *Outbox) ClearRefused() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.usable(); err != nil {
		return fmt.Errorf("clear refused batches: %w", err)
	}
	// That they are settled must be on disk before they are gone.
	if err := o.writeSettled(); err != nil {
		return err
	}
	if err := o.active().file.Sync(); err != nil {
		return o.breakDown(err)
	}
	line, err := marshal(cleared{&o.refused.tally})
	if err != nil {
		return fmt.Errorf("clear refused batches: %w", err)
	}
	if err := replaceFile(filepath.Join(o.dir, RefusedFile), append(line, '\n')); err != nil {
		return fmt.Errorf("clear refused batches: %w", err)
	}
	fresh, err := openRefused(o.dir)
	if err != nil {
		return o.breakDown(err)
	}
	old := o.refused
	o.refused = fresh
	o.free()
	return old.file.Close()
}

// replaceFile puts a file in the place of another, all or nothing.
func replaceFile(path string, content []byte) error {
	temporary := path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		if err = os.Rename(temporary, path); err == nil {
			return syncDir(filepath.Dir(path))
		}
	}
	return errors.Join(err, os.Remove(temporary))
}
