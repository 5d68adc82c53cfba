package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"sortition/internal/fileio"
	"sortition/schemas"
)

// maxLine is the longest line or row that is read as an activity.
const maxLine = 16 << 20

// An inputFile is one input of assign. The fields behind isCSV are set when it
// is opened.
type inputFile struct {
	path, base string
	isCSV      bool

	input   *fileio.Input
	cutter  fileio.Cutter
	columns *schemas.CSVColumns
}

// inputs reads the files one after the other. It belongs to one goroutine at a
// time, but for consumed and size.
type inputs struct {
	stdin *os.File
	types map[string]schemas.CSVType
	todo  []inputFile
	open  *inputFile
	blank int64 // lines passed over and not yet reported with a chunk

	before atomic.Int64 // bytes of the files that are done
	now    atomic.Pointer[fileio.Input]
	size   int64 // of all files in bytes; -1 if not known
}

func newInputs(plan *assignPlan, stdin *os.File) *inputs {
	in := &inputs{stdin: stdin, types: plan.types, todo: plan.inputs}
	for i := range plan.inputs {
		info, err := os.Stat(plan.inputs[i].path)
		if plan.inputs[i].path == fileio.Stdin {
			info, err = stdin.Stat()
		}
		if err != nil || !info.Mode().IsRegular() {
			in.size = -1
			return in
		}
		in.size += info.Size()
	}
	return in
}

// consumed is how many bytes of the files have been read.
func (in *inputs) consumed() int64 {
	n := in.before.Load()
	if f := in.now.Load(); f != nil {
		n += f.Consumed()
	}
	return n
}

// next fills c with the next chunk and tells which file it is of; io.EOF after
// the last.
func (in *inputs) next(c *fileio.Chunk) (*inputFile, error) {
	for {
		if in.open == nil {
			if len(in.todo) == 0 {
				return nil, io.EOF
			}
			f := in.todo[0]
			in.todo = in.todo[1:]
			if err := in.begin(&f); err != nil {
				return nil, err
			}
			in.open = &f
		}
		err := in.open.cutter.Cut(c)
		if err == nil {
			c.Blank += int(in.blank)
			in.blank = 0
			return in.open, nil
		}
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
		in.blank += int64(c.Blank)
		in.close()
	}
}

func (in *inputs) begin(f *inputFile) (err error) {
	if f.input, err = fileio.Open(f.path, in.stdin); err != nil {
		return err
	}
	in.now.Store(f.input)
	if !f.isCSV {
		f.cutter = fileio.NewLineCutter(f.input, maxLine)
		return nil
	}
	rows := fileio.NewRowCutter(f.input, maxLine)
	f.cutter = rows
	header, err := rows.Header()
	if err == nil && header != nil {
		f.columns, err = schemas.CompileCSV(header, in.types)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// close ends the open file, if there is one.
func (in *inputs) close() {
	if in.open == nil {
		return
	}
	in.now.Store(nil)
	in.before.Add(in.open.input.Consumed())
	_ = in.open.input.Close() // it was only read
	in.open = nil
}
