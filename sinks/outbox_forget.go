package sinks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// outbox_forget.go takes refused batches out of their file: all of them when somebody
// says so, the oldest when they have a bound of their own. The account goes on counting
// them.

// ClearRefused takes the refused batches out, whose place is free then; the account
// goes on counting them. Whoever wants to keep them copies [RefusedFile] before.
func (o *Outbox) ClearRefused() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.usable(); err != nil {
		return fmt.Errorf("clear refused batches: %w", err)
	}
	if err := o.replaceRefused(o.refused.size, o.refused.tally, o.refused.forgotten); err != nil {
		return fmt.Errorf("clear refused batches: %w", err)
	}
	return nil
}

// keepRefused keeps a batch, in the bound if there is one.
func (o *Outbox) keepRefused(batch *RefusedBatch) error {
	line, err := lineOf(batch)
	if err != nil {
		return err
	}
	if bound := o.o.MaxRefusedBytes; bound > 0 && int64(len(line)) > bound/2 {
		for i := range batch.Parts {
			part := &batch.Parts[i]
			part.LeftOut, part.Body = len(part.Body), nil
		}
		if line, err = lineOf(batch); err != nil {
			return err
		}
	}
	if err := o.boundRefused(int64(len(line))); err != nil {
		return err
	}
	return o.refused.append(batch, line)
}

// boundRefused has the oldest refused batches make way if there is a bound and the file
// would exceed it with more bytes: half of it at once, since the rest is copied.
func (o *Outbox) boundRefused(more int64) error {
	bound := o.o.MaxRefusedBytes
	if bound == 0 || o.refused.size+more <= bound {
		return nil
	}
	_, err := o.forget(bound / 2)
	return err
}

// forget has the oldest refused batches make way until the file takes at most keep bytes.
// False if there is nothing to forget, or no bound and so no leave to.
func (o *Outbox) forget(keep int64) (isForgotten bool, err error) {
	if o.o.MaxRefusedBytes == 0 || o.refused.kept.Batches == 0 {
		return false, nil
	}
	if o.broken != nil {
		return false, o.broken
	}
	keep -= maxHead
	from, gone := int64(0), o.refused.gone()
	var forgotten Tally
	in := bufio.NewReaderSize(io.NewSectionReader(o.refused.file, 0, o.refused.size), 1<<16)
	for o.refused.size-from > keep && from < o.refused.size {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return false, fmt.Errorf("forget refused batches: %w", err)
		}
		from += int64(len(line))
		var batch struct {
			cleared
			Refused int `json:"refused"`
		}
		if err := json.Unmarshal(line, &batch); err != nil {
			return false, fmt.Errorf("forget refused batches: %w: %s", ErrDamaged, RefusedFile)
		}
		if batch.Cleared == nil {
			forgotten.add(batch.Refused)
			gone.add(batch.Refused)
		}
	}
	all := o.refused.forgotten
	all.Batches += forgotten.Batches
	all.Visitors += forgotten.Visitors
	if err := o.replaceRefused(from, gone, all); err != nil {
		return false, fmt.Errorf("forget refused batches: %w", err)
	}
	o.untold.Batches += forgotten.Batches
	o.untold.Visitors += forgotten.Visitors
	return forgotten.Batches > 0, nil
}

// tellForgotten tells what was forgotten. It must be called without mu.
func (o *Outbox) tellForgotten() {
	if o.o.OnForget == nil {
		return
	}
	o.mu.Lock()
	forgotten := o.untold
	o.untold = Tally{}
	o.mu.Unlock()
	if forgotten.Batches > 0 {
		o.o.OnForget(forgotten)
	}
}

// maxHead is more than the first line takes, whatever the numbers.
const maxHead = 256

// gone are those no longer in the file.
func (f *refusedFile) gone() Tally {
	return Tally{Batches: f.tally.Batches - f.kept.Batches, Visitors: f.tally.Visitors - f.kept.Visitors}
}

// replaceRefused leaves in the file what is in it from a byte on, and says before it what
// was taken out ever.
func (o *Outbox) replaceRefused(from int64, gone, forgotten Tally) error {
	// That they are settled must be on disk before they are gone.
	if err := o.writeSettled(); err != nil {
		return err
	}
	if err := o.active().file.Sync(); err != nil {
		return o.breakDown(err)
	}
	head := cleared{Cleared: &gone}
	if forgotten.Batches > 0 {
		head.Forgotten = &forgotten
	}
	line, err := marshal(head)
	if err != nil {
		return err
	}
	rest := io.NewSectionReader(o.refused.file, from, o.refused.size-from)
	path := filepath.Join(o.dir, RefusedFile)
	line = append(line, '\n')
	if err := replaceFile(path, io.MultiReader(bytes.NewReader(line), rest)); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return o.breakDown(err)
	}
	old := o.refused
	o.refused = &refusedFile{
		file: file, size: int64(len(line)) + rest.Size(), tally: old.tally, forgotten: forgotten,
		kept: Tally{Batches: old.tally.Batches - gone.Batches, Visitors: old.tally.Visitors - gone.Visitors},
	}
	o.free()
	return old.file.Close()
}
