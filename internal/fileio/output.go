package fileio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// An Output is a file being written: beside its place under another name, until
// [Publish]. It packs what is written if its name ends as gzip or zstd files do.
// It belongs to one goroutine at a time.
type Output struct {
	path   string // where it shall appear; "" for what is written in place
	name   string // for errors
	file   *os.File
	packer io.WriteCloser // nil: plain
	isOurs bool           // file is ours to close
}

// Create begins a file, or writes to stdout for [Stdin]. What exists and is no
// regular file (a device, a pipe) is written in place. An existing file stays as
// it is until Publish, which keeps its permissions; of a symbolic link, the file
// it points to is replaced.
func Create(path string, stdout *os.File) (*Output, error) {
	if path == Stdin {
		return &Output{name: "standard output", file: stdout}, nil
	}
	o := &Output{path: path, name: path, isOurs: true}
	mode := os.FileMode(0o666) // less the umask
	isReplaced := false
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return nil, fmt.Errorf("write %s: is a directory", path)
		}
		if !info.Mode().IsRegular() {
			if o.file, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
				return nil, o.errorf(err)
			}
			o.path = ""
			return o, o.errorf(o.pack(path))
		}
		mode, isReplaced = info.Mode().Perm(), true
		if o.path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, o.errorf(err)
		}
		// A file one may not write to is not to be replaced either.
		writable, err := os.OpenFile(o.path, os.O_WRONLY, 0)
		if err == nil {
			err = writable.Close()
		}
		if err != nil {
			return nil, o.errorf(err)
		}
	}
	var err error
	if o.file, err = createBeside(o.path, mode); err != nil {
		return nil, o.errorf(err)
	}
	if isReplaced {
		err = o.file.Chmod(mode)
	}
	if err == nil {
		err = o.pack(path)
	}
	if err != nil {
		o.Discard()
		return nil, o.errorf(err)
	}
	return o, nil
}

// createBeside creates a hidden file in the folder of path.
func createBeside(path string, mode os.FileMode) (*os.File, error) {
	dir, base := filepath.Split(path)
	for n := 0; ; n++ {
		name := filepath.Join(dir, fmt.Sprintf(".%s.%d-%d.tmp", base, os.Getpid(), n))
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if !errors.Is(err, os.ErrExist) || n == 100 {
			return file, err
		}
	}
}

func (o *Output) pack(path string) (err error) {
	switch _, compression := SplitSuffix(path); compression {
	case Gzip:
		o.packer = gzip.NewWriter(o.file)
	case Zstd:
		// With one goroutine the bytes are the same on every machine.
		o.packer, err = zstd.NewWriter(o.file, zstd.WithEncoderConcurrency(1))
	case Plain:
	}
	return err
}

// Write writes to the file. It doesn't gather small writes of plain files.
func (o *Output) Write(p []byte) (int, error) {
	var n int
	var err error
	if o.packer != nil {
		n, err = o.packer.Write(p)
	} else {
		n, err = o.file.Write(p)
	}
	return n, o.errorf(err)
}

func (o *Output) errorf(err error) error {
	if err == nil {
		return nil
	}
	var path *os.PathError
	var link *os.LinkError
	switch { // the path would be that of the temporary file
	case errors.As(err, &path):
		err = path.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("write %s: %w", o.name, err)
}

// finish brings all that was written to the disk.
func (o *Output) finish() error {
	if o.packer != nil {
		if err := o.packer.Close(); err != nil {
			return o.errorf(err)
		}
	}
	if o.path == "" {
		return nil
	}
	return o.errorf(o.file.Sync())
}

// publish gives the file its name.
func (o *Output) publish() error {
	if !o.isOurs {
		return nil
	}
	if err := o.file.Close(); err != nil {
		return o.errorf(err)
	}
	o.isOurs = false
	if o.path == "" {
		return nil
	}
	if err := os.Rename(o.file.Name(), o.path); err != nil {
		return errors.Join(o.errorf(err), os.Remove(o.file.Name()))
	}
	// The name is in the folder, so that has to reach the disk too.
	dir, err := os.Open(filepath.Dir(o.path))
	if err != nil {
		return o.errorf(err)
	}
	defer dir.Close()
	return o.errorf(dir.Sync())
}

// Discard removes what was written. After Publish, and for what is written in
// place, it has no effect on the file.
func (o *Output) Discard() {
	if !o.isOurs {
		return
	}
	o.isOurs = false
	// Nothing can follow from errors here: the file is being thrown away.
	_ = o.file.Close()
	if o.path != "" {
		_ = os.Remove(o.file.Name())
	}
}

// Publish completes outputs: first all of them are brought to the disk, then each
// appears under its name. An error before the first rename leaves no file. Nil
// outputs are passed over.
func Publish(outputs ...*Output) error {
	for _, step := range []func(*Output) error{(*Output).finish, (*Output).publish} {
		for _, o := range outputs {
			if o == nil {
				continue
			}
			if err := step(o); err != nil {
				return err
			}
		}
	}
	return nil
}
