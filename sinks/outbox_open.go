package sinks

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// OpenOutbox opens the outbox in a folder, which it makes if there is none, and
// finds everything that isn't settled. Whoever opens it must close it. If another
// process, or another Outbox of this one, has it open, the error is [ErrLocked];
// if what was safely on disk isn't readable any more, [ErrDamaged].
func OpenOutbox(dir string, options OutboxOptions) (*Outbox, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("configure outbox: %w", err)
	}
	o := &Outbox{
		dir: dir, o: options.withDefaults(), next: 1,
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
		laneOf: map[string]uint16{}, syncedAt: time.Now(),
	}
	if err := o.open(); err != nil {
		for _, s := range o.segments {
			err = errors.Join(err, s.file.Close())
		}
		if o.refused != nil {
			err = errors.Join(err, o.refused.file.Close())
		}
		if o.lock != nil {
			err = errors.Join(err, o.lock.Close())
		}
		return nil, fmt.Errorf("open outbox %s: %w", dir, err)
	}
	o.tellForgotten()
	return o, nil
}

func (o *Outbox) open() error {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	var err error
	if o.lock, err = os.OpenFile(filepath.Join(o.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := lockFile(o.lock); err != nil {
		return err
	}
	names, err := os.ReadDir(o.dir)
	if err != nil {
		return err
	}
	var numbers []uint64
	for _, name := range names {
		if strings.HasSuffix(name.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(o.dir, name.Name())); err != nil {
				return err
			}
		} else if first, ok := segmentNumber(name.Name()); ok {
			numbers = append(numbers, first)
		}
	}
	slices.Sort(numbers)
	for i, first := range numbers {
		if err := o.openSegment(first, i == len(numbers)-1); err != nil {
			return err
		}
	}
	if o.refused, err = openRefused(o.dir); err != nil {
		return err
	}
	for seq := range o.refused.seqs {
		if o.markSettled(seq) {
			o.unwritten = append(o.unwritten, seq) // a crash came between
		}
	}
	o.refused.seqs = nil
	for _, s := range o.segments {
		for i := range s.entries {
			if e := &s.entries[i]; e.state == statePending {
				s.unsolved++
				o.pending.add(int(e.visitors))
			}
		}
	}
	// A log without anything to do begins anew, so that the next opening is quick.
	if len(o.segments) == 0 {
		if err := o.addSegment(); err != nil {
			return err
		}
	}
	if o.pending.Batches == 0 {
		if _, err := o.renew(); err != nil && !errors.Is(err, errNoSpace) {
			return err
		}
	}
	if err := o.boundRefused(0); err != nil && !errors.Is(err, errNoSpace) { // the bound may be new
		return err
	}
	o.reclaim()
	return nil
}

// addSegment begins a new segment.
func (o *Outbox) addSegment() error {
	s, err := createSegment(o.dir, o.next, o.visitors, o.o.openFile)
	if err != nil {
		return err
	}
	o.segments = append(o.segments, s)
	o.bytes += s.size
	return nil
}

// openSegment reads one segment. Only the last can have an unreadable end that is
// no damage: the others were forced to disk before their successor was made.
func (o *Outbox) openSegment(first uint64, isLast bool) error {
	path := segmentPath(o.dir, first)
	damaged := func(what string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, filepath.Base(path), fmt.Sprintf(what, args...))
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	file, err := o.o.openFile(path)
	if err != nil {
		return err
	}
	s := &segment{path: path, file: file, first: first, size: info.Size()}
	reader, err := os.Open(path)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	defer reader.Close()
	o.segments = append(o.segments, s) // so that records find it, and failures close it
	named, visitors, err := scanSegment(reader, info.Size(), func(r *record, offset, size int64) error {
		if r.kind == kindSettled {
			o.markSettled(r.seq)
			return nil
		}
		if want := s.first + uint64(len(s.entries)); r.seq != want {
			return damaged("batch %d where %d should be", r.seq, want)
		}
		return s.add(o, &r.batch, offset, size)
	})
	var torn *tornError
	if errors.As(err, &torn) {
		if !isLast {
			return damaged("%v, but it isn't the last file", torn)
		}
		if torn.offset == 0 {
			// Its making was cut short. Before it had its head on disk, nothing was
			// written to it and no older file removed.
			if info.Size() > segmentHeader || len(o.segments) == 1 && first != 1 {
				return damaged("%v", torn)
			}
			o.segments = o.segments[:len(o.segments)-1]
			o.cut = info.Size()
			return errors.Join(file.Close(), os.Remove(path), syncDir(o.dir))
		}
		if err = o.cutTail(s, torn, info.Size()); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if s.visitors = visitors; len(o.segments) == 1 {
		o.next, o.visitors = first, visitors
	}
	if named != first || o.next != first || o.visitors != visitors {
		return damaged("it doesn't continue the file before it")
	}
	for i := range s.entries {
		o.visitors += uint64(s.entries[i].visitors)
	}
	o.next += uint64(len(s.entries))
	o.bytes += s.size
	return nil
}

// cutTail cuts off what a crash left at the end of the last segment. A record
// that is there in full but wrong isn't plainly an unfinished write: a copy of
// the tail is kept.
func (o *Outbox) cutTail(s *segment, torn *tornError, length int64) error {
	o.cut = length - torn.offset
	if torn.isComplete {
		tail := make([]byte, o.cut)
		if _, err := s.file.ReadAt(tail, torn.offset); err != nil {
			return err
		}
		copied := filepath.Join(o.dir, fmt.Sprintf("cut-%d-%d", s.first, torn.offset))
		if err := replaceFile(copied, bytes.NewReader(tail)); err != nil {
			return err
		}
	}
	s.size = torn.offset
	return errors.Join(s.file.Truncate(s.size), s.file.Sync())
}

// add notes a batch that was written to a segment.
func (s *segment) add(o *Outbox, b *Batch, offset, size int64) error {
	index, ok := o.laneOf[b.Endpoint]
	if !ok {
		if len(o.lanes) > maxRecordField {
			return errors.New("too many different endpoints in one outbox")
		}
		index = uint16(len(o.lanes))
		o.lanes = append(o.lanes, &lane{endpoint: b.Endpoint})
		o.laneOf[b.Endpoint] = index
	}
	s.entries = append(s.entries, entry{
		offset: uint32(offset), length: uint32(size), visitors: uint32(b.Visitors), lane: index,
	})
	return nil
}

// markSettled marks a batch if its segment is still there. True if it wasn't marked yet.
func (o *Outbox) markSettled(seq uint64) bool {
	if len(o.segments) == 0 || seq < o.segments[0].first {
		return false
	}
	s := o.segmentOf(seq)
	if seq-s.first >= uint64(len(s.entries)) {
		return false
	}
	e := &s.entries[seq-s.first]
	isNew := e.state != stateSettled
	e.state = stateSettled
	return isNew
}
