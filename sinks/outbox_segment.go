package sinks

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment is one file of the log. Its entries are the batches appended to it.
type segment struct {
	path     string
	file     segmentFile
	first    uint64 // sequence number of entries[0]
	visitors uint64 // appended before it
	size     int64  // of what is complete
	entries  []entry
	unsolved int // entries that aren't settled
}

// segmentFile is what the log does with a file; tests make it fail.
type segmentFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// An entry is where a batch lies, in 16 bytes, since there may be millions.
type entry struct {
	offset, length uint32 // of the record's payload
	visitors       uint32
	lane           uint16 // index of the endpoint
	state          entryState
}

type entryState uint8

const (
	statePending entryState = iota
	stateInFlight
	stateSettled
)

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%020d.log", first))
}

// segmentNumber reads the number of a segment's name.
func segmentNumber(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil
}

// createSegment makes an empty segment that survives a crash from here on.
func createSegment(dir string, first, visitors uint64, open func(string) (segmentFile, error)) (*segment, error) {
	s := &segment{path: segmentPath(dir, first), first: first, visitors: visitors, size: segmentHeader}
	var err error
	if s.file, err = open(s.path); err != nil {
		return nil, err
	}
	if _, err = s.file.WriteAt(appendSegmentHeader(nil, first, visitors), 0); err == nil {
		if err = errors.Join(s.file.Truncate(segmentHeader), s.file.Sync()); err == nil {
			err = syncDir(dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.file.Close(), os.Remove(s.path))
	}
	return s, nil
}

func openSegmentFile(path string) (segmentFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// syncDir makes the names in a folder survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A tornError is where a segment stops being readable.
type tornError struct {
	offset int64
	// isComplete: the record is all there, but it isn't what was written.
	isComplete bool
}

func (e *tornError) Error() string { return fmt.Sprintf("unreadable from byte %d", e.offset) }

// scan reads a segment from its beginning and hands over its records. The
// record's bytes are valid during the call only. What it returns is nil, a
// *tornError, an error of the file or one of each.
func scanSegment(r io.Reader, length int64, each func(r *record, offset, size int64) error) (first, visitors uint64, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	header := make([]byte, segmentHeader)
	if n, err := io.ReadFull(in, header); err != nil {
		if !isEnd(err) {
			return 0, 0, err
		}
		return 0, 0, &tornError{offset: 0, isComplete: n == segmentHeader}
	}
	first, visitors, ok := readSegmentHeader(header)
	if !ok {
		return 0, 0, &tornError{isComplete: true}
	}
	var payload []byte
	for offset := int64(segmentHeader); offset < length; {
		if _, err := io.ReadFull(in, header[:recordHeader]); err != nil {
			if !isEnd(err) {
				return first, visitors, err
			}
			return first, visitors, &tornError{offset: offset}
		}
		size := int64(binary.LittleEndian.Uint32(header))
		switch {
		case size < payloadHead || size > maxRecord:
			return first, visitors, &tornError{offset: offset, isComplete: true}
		case offset+recordHeader+size > length:
			return first, visitors, &tornError{offset: offset}
		}
		if int64(cap(payload)) < size {
			payload = make([]byte, size)
		}
		payload = payload[:size]
		if _, err := io.ReadFull(in, payload); err != nil {
			return first, visitors, err
		}
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
			return first, visitors, &tornError{offset: offset, isComplete: true}
		}
		rec, err := readPayload(payload)
		if err != nil {
			return first, visitors, &tornError{offset: offset, isComplete: true}
		}
		if err := each(&rec, offset+recordHeader, size); err != nil {
			return first, visitors, err
		}
		offset += recordHeader + size
	}
	return first, visitors, nil
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// read reads a batch back. Its bytes are the caller's.
func (s *segment) read(e entry) (record, error) {
	b := make([]byte, recordHeader+int(e.length))
	if _, err := s.file.ReadAt(b, int64(e.offset)-recordHeader); err != nil {
		return record{}, fmt.Errorf("read outbox: %w", err)
	}
	if crc32.Checksum(b[recordHeader:], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, fmt.Errorf("%w: %s: a record at byte %d", ErrDamaged, filepath.Base(s.path), e.offset)
	}
	r, err := readPayload(b[recordHeader:])
	if err != nil {
		return r, fmt.Errorf("%w: %s: a record at byte %d", ErrDamaged, filepath.Base(s.path), e.offset)
	}
	return r, nil
}
