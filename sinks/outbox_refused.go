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
	// LeftOut is the size of the body if it isn't there, being larger than
	// MaxRefusedBytes allows.
	LeftOut int `json:"left_out,omitempty"`
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

// cleared is the file's first line once something was taken out of it: what that was,
// and how much of it was forgotten rather than cleared by somebody.
type cleared struct {
	Cleared   *Tally `json:"cleared"`
	Forgotten *Tally `json:"forgotten,omitempty"`
}

// refusedFile is the open file and what is in it.
type refusedFile struct {
	file      *os.File
	size      int64
	tally     Tally // with what was cleared or forgotten
	forgotten Tally
	kept      Tally // in the file
	seqs      map[uint64]bool
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
			if head.Forgotten != nil {
				f.forgotten = *head.Forgotten
			}
			return nil
		}
	}
	var batch RefusedBatch
	if json.Unmarshal(line, &batch) != nil || batch.Seq == 0 {
		return fmt.Errorf("%w: %s: not a refused batch at byte %d", ErrDamaged, RefusedFile, f.size)
	}
	f.seqs[batch.Seq] = true
	f.tally.add(batch.Refused)
	f.kept.add(batch.Refused)
	return nil
}

func lineOf(batch *RefusedBatch) ([]byte, error) {
	line, err := marshal(batch)
	if err != nil {
		return nil, fmt.Errorf("keep refused batch: %w", err)
	}
	return append(line, '\n'), nil
}

// append brings a batch to the disk: as a line of its own.
func (f *refusedFile) append(batch *RefusedBatch, line []byte) error {
	_, err := f.file.WriteAt(line, f.size)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep refused batch: %w", err), f.file.Truncate(f.size))
	}
	f.size += int64(len(line))
	f.tally.add(batch.Refused)
	f.kept.add(batch.Refused)
	return nil
}

// Refused reads the batches refused for good that are still kept, oldest first: those
// there are when the reading begins, whatever is cleared or forgotten meanwhile. Safe for
// concurrent use.
func (o *Outbox) Refused() iter.Seq2[RefusedBatch, error] {
	return func(yield func(RefusedBatch, error) bool) {
		file, size, err := o.openKept()
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

// openKept opens the file anew, since it may be replaced any time.
func (o *Outbox) openKept() (file *os.File, size int64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isClosed {
		return nil, 0, fmt.Errorf("outbox: %w", ErrClosed)
	}
	file, err = os.Open(filepath.Join(o.dir, RefusedFile))
	return file, o.refused.size, err
}

// replaceFile puts a file in the place of another, all or nothing.
func replaceFile(path string, content io.Reader) error {
	temporary := path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
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
