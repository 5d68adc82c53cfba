package fileio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Stdin is the path that stands for standard input, and for standard output.
const Stdin = "-"

// A Compression is how a file is packed.
type Compression uint8

// The compressions.
const (
	Plain Compression = iota
	Gzip
	Zstd
)

var suffixes = []struct {
	suffix      string
	compression Compression
}{{".gz", Gzip}, {".gzip", Gzip}, {".zst", Zstd}, {".zstd", Zstd}}

// SplitSuffix tells the compression that a path's suffix stands for, and the
// path without that suffix.
func SplitSuffix(path string) (rest string, c Compression) {
	lower := strings.ToLower(path)
	for _, s := range suffixes {
		if strings.HasSuffix(lower, s.suffix) {
			return path[:len(path)-len(s.suffix)], s.compression
		}
	}
	return path, Plain
}

// An Input is a file being read, unpacked on the way. Consumed may be
// called while another goroutine reads.
type Input struct {
	name     string
	file     *os.File
	isOwned  bool // file is ours to close
	consumed atomic.Int64
	text     io.Reader
	unzstd   *zstd.Decoder
}

const readBuffer = 128 << 10

// Open opens a path, or stdin for [Stdin], for reading. gzip and zstd are known
// by the suffix or, whatever the name, by the first bytes; a suffix that doesn't
// tell the truth is an error. An empty file is empty input under any name.
//
// Open waits for the first bytes of what it opens.
func Open(path string, stdin *os.File) (*Input, error) {
	in := &Input{name: path, file: stdin}
	if path != Stdin {
		file, err := os.Open(path)
		if err != nil {
			return nil, err // names operation and path
		}
		in.file, in.isOwned = file, true
	} else {
		in.name = "standard input"
	}
	if info, err := in.file.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(fmt.Errorf("read %s: is a directory", in.name), in.Close())
	}
	if err := in.unpack(path); err != nil {
		return nil, errors.Join(in.errorf(err), in.Close())
	}
	return in, nil
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

func (in *Input) unpack(path string) error {
	packed := bufio.NewReaderSize((*countingReader)(in), readBuffer)
	head, err := packed.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, byName := SplitSuffix(path)
	switch {
	case len(head) == 0:
		in.text = packed
	case bytes.HasPrefix(head, gzipMagic):
		in.text, err = gzip.NewReader(packed)
		return err
	case bytes.HasPrefix(head, zstdMagic) || byName == Zstd:
		// One goroutine's worth: the workers need the processors, and low memory
		// keeps the window only once.
		in.unzstd, err = zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		in.text = in.unzstd
		return err
	case byName == Gzip:
		return gzip.ErrHeader
	default:
		in.text = packed
	}
	return nil
}

// countingReader is the packed side of an Input.
type countingReader Input

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.consumed.Add(int64(n))
	return n, err
}

func (in *Input) errorf(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("read %s: %w", in.name, err)
}

// Read reads unpacked bytes. Errors name the file.
func (in *Input) Read(p []byte) (int, error) {
	n, err := in.text.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = in.errorf(err)
	}
	return n, err
}

// Consumed is how many bytes of the file, as it is stored, have been read.
func (in *Input) Consumed() int64 { return in.consumed.Load() }

// Close ends the reading. Standard input stays open.
func (in *Input) Close() error {
	if in.unzstd != nil {
		in.unzstd.Close()
	}
	if !in.isOwned {
		return nil
	}
	return in.file.Close()
}

// ReadFile reads a whole file, unpacked, of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	if path == Stdin {
		return nil, errors.New("read -: standard input is not taken here; name a file")
	}
	return ReadInput(path, nil, limit)
}

// ReadInput is ReadFile for where [Stdin] may stand for standard input.
func ReadInput(path string, stdin *os.File, limit int64) ([]byte, error) {
	in, err := Open(path, stdin)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d MiB", path, limit>>20)
	}
	return data, nil
}

// IsSame tells whether two paths name the same file, whether it exists or not.
// Standard streams are nobody's file.
func IsSame(a, b string) bool {
	if a == Stdin || b == Stdin {
		return false
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	return errA != nil && errB != nil && realPath(a) == realPath(b)
}

// realPath resolves the folder of a file that need not exist.
func realPath(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return path
	}
	return filepath.Join(dir, filepath.Base(path))
}
