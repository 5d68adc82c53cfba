package emulator

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// A journal appends lines to files received-000001.ndjson and so on. A process
// that is killed loses no line that was appended; the one it was writing ends
// without a line feed and is cut off at the next start. One process at a time.
// Not safe for concurrent use.
type journal struct {
	dir    string
	max    int64 // size at which the next file is begun
	file   *os.File
	number int   // of file
	size   int64 // of file
}

// openJournal reads the lines of earlier processes and then takes new ones.
func openJournal(dir string, maxBytes int64, visit func(line []byte)) (*journal, error) {
	names, err := filepath.Glob(filepath.Join(dir, "received-*.ndjson"))
	if err != nil {
		return nil, fmt.Errorf("open the emulator's files: %w", err)
	}
	slices.Sort(names)
	j := &journal{dir: dir, max: maxBytes, number: 1}
	for _, name := range names {
		if _, err := fmt.Sscanf(filepath.Base(name), "received-%d.ndjson", &j.number); err != nil {
			return nil, fmt.Errorf("open the emulator's files: %s is not a name of theirs", filepath.Base(name))
		}
		if j.size, err = readLines(name, visit); err != nil {
			return nil, err
		}
	}
	return j, j.open()
}

// readLines hands on the complete lines of a file and returns how many bytes they are.
func readLines(path string, visit func(line []byte)) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open the emulator's files: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read the emulator's files: %w", err)
		}
		visit(line)
		size += int64(len(line))
	}
}

// open opens the file of j.number and cuts off what is behind j.size.
func (j *journal) open() (err error) {
	name := filepath.Join(j.dir, fmt.Sprintf("received-%06d.ndjson", j.number))
	if j.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return fmt.Errorf("open the emulator's files: %w", err)
	}
	if err := j.file.Truncate(j.size); err != nil {
		return errors.Join(fmt.Errorf("open the emulator's files: %w", err), j.file.Close())
	}
	return nil
}

// append writes a line, to which it adds the line feed.
func (j *journal) append(line []byte) error {
	if j.file == nil {
		return errors.New("keep an attempt: the files are closed")
	}
	if j.size >= j.max {
		if err := j.file.Close(); err != nil {
			return fmt.Errorf("keep an attempt: %w", err)
		}
		j.number, j.size = j.number+1, 0
		if err := j.open(); err != nil {
			j.file = nil
			return err
		}
	}
	line = append(line, '\n')
	if _, err := j.file.Write(line); err != nil {
		// A part of it may be there; the next line must not be glued to it.
		return errors.Join(fmt.Errorf("keep an attempt: %w", err), j.file.Truncate(j.size))
	}
	j.size += int64(len(line))
	return nil
}

// clear removes all files and begins anew.
func (j *journal) clear() error {
	if err := j.close(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(j.dir, "received-*.ndjson"))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	j.number, j.size = 1, 0
	if err = errors.Join(err, j.open()); err != nil {
		return fmt.Errorf("clear the emulator's files: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	if err != nil {
		return fmt.Errorf("close the emulator's files: %w", err)
	}
	return nil
}
