package fileio

import (
	"bytes"
	"errors"
	"io"

	"sortition/schemas"
)

// A Line is one record of a Chunk: Data[From:To], without its line feed.
type Line struct {
	From, To int
	Number   int64 // of its first line in the file, from 1
	Err      error // why it can't be a record, nil normally; a *schemas.Reject
}

// A Chunk is some consecutive records of one input. It is made for reuse.
type Chunk struct {
	Data  []byte
	Lines []Line
	Blank int // blank lines passed over
	// IsCut: the last line is longer than the limit, Data has only its beginning,
	// and [Cutter.Rest] is to be called for the rest of it.
	IsCut bool
}

func (c *Chunk) reset() {
	if cap(c.Data) > maxKept {
		c.Data = nil // a rare long line is not to be paid for ever
	}
	c.Data, c.Lines, c.Blank, c.IsCut = c.Data[:0], c.Lines[:0], 0, false
}

// isFull tells whether a chunk ends here. It depends on the text alone.
func (c *Chunk) isFull() bool { return len(c.Lines) >= ChunkLines || len(c.Data) >= ChunkBytes }

// The bounds of a chunk: it ends with the record that reaches one of them.
const (
	ChunkLines = 128
	ChunkBytes = 256 << 10

	maxKept    = 1 << 20
	lineBuffer = 2 * readBuffer // so that most reads bypass the buffer of the Input
)

// A Cutter cuts an input into chunks. Cut fills c with the next one, and returns
// io.EOF, with an empty chunk but for Blank, at the end. Rest writes what is left
// of the line that IsCut spoke of, holding no more of it than a buffer. A Cutter
// belongs to one goroutine at a time.
type Cutter interface {
	Cut(c *Chunk) error
	Rest(w io.Writer) error
}

// A LineCutter cuts at line feeds. A carriage return before one stays with the
// line; a byte order mark at the beginning of the input goes. Lines of nothing
// but spaces, tabs and carriage returns are passed over.
type LineCutter struct {
	source   io.Reader
	limit    int
	buffer   []byte // the unread part is buffer[from:to]
	from, to int
	searched int // so far into the unread part there is no line feed
	isInLong bool
	ended    error
	number   int64 // of the next line
	cut      int   // bytes of the last chunk
}

// NewLineCutter returns a cutter of lines of at most limit bytes, counted
// without the line feed.
func NewLineCutter(source io.Reader, limit int) *LineCutter {
	return &LineCutter{source: source, limit: limit, number: 1}
}

// Cut fills c with the next lines.
func (l *LineCutter) Cut(c *Chunk) error {
	c.reset()
	if c.Data == nil && l.cut > 0 {
		// A new chunk grows no larger than the last one in nearly all cases.
		c.Data, c.Lines = make([]byte, 0, l.cut+l.cut/8), make([]Line, 0, ChunkLines)
	}
	defer func() { l.cut = min(len(c.Data), ChunkBytes) }()
	if l.isInLong {
		panic("BUG: the rest of a long line was not read")
	}
	for !c.isFull() {
		unread := l.buffer[l.from:l.to]
		n := bytes.IndexByte(unread[l.searched:], '\n')
		switch {
		case n >= 0 && l.searched+n <= l.limit:
			l.add(c, unread[:l.searched+n])
			l.from += l.searched + n + 1
			l.searched = 0
		case len(unread) > l.limit:
			if len(c.Lines) > 0 {
				return nil // the long line makes a chunk of its own
			}
			c.Data = append(c.Data, unread[:l.limit]...)
			c.Lines = append(c.Lines, Line{To: l.limit, Number: l.number, Err: schemas.LineTooLong(l.limit)})
			c.IsCut, l.isInLong = true, true
			l.from += l.limit
			l.searched = 0
			return nil
		case l.ended == nil:
			l.searched = len(unread)
			l.fill()
		case !errors.Is(l.ended, io.EOF):
			return l.ended
		default:
			if len(unread) > 0 {
				l.add(c, unread)
				l.from, l.searched = l.to, 0
			}
			if len(c.Lines) == 0 {
				return io.EOF
			}
			return nil
		}
	}
	return nil
}

func (l *LineCutter) add(c *Chunk, line []byte) {
	number := l.number
	l.number++
	if isBlank(line) {
		c.Blank++
		return
	}
	from := len(c.Data)
	c.Data = append(c.Data, line...)
	c.Lines = append(c.Lines, Line{From: from, To: len(c.Data), Number: number})
}

func isBlank(line []byte) bool {
	for _, b := range line {
		if b != ' ' && b != '\t' && b != '\r' {
			return false
		}
	}
	return true
}

// Rest writes what is left of the line that IsCut spoke of.
func (l *LineCutter) Rest(w io.Writer) error {
	for {
		unread := l.buffer[l.from:l.to]
		n := bytes.IndexByte(unread, '\n')
		isEnd := n >= 0
		if !isEnd {
			n = len(unread)
		}
		if _, err := w.Write(unread[:n]); err != nil {
			return err
		}
		l.from += n
		switch {
		case isEnd:
			l.from++
		case l.ended == nil:
			l.fill()
			continue
		case !errors.Is(l.ended, io.EOF):
			return l.ended
		}
		l.isInLong = false
		l.number++
		return nil
	}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// fill reads more, making room first. A buffer that a long line has blown up is
// given back.
func (l *LineCutter) fill() {
	unread := l.buffer[l.from:l.to]
	switch {
	case l.buffer == nil:
		l.buffer = make([]byte, lineBuffer)
		l.to, l.ended = io.ReadAtLeast(l.source, l.buffer, len(byteOrderMark))
		if errors.Is(l.ended, io.ErrUnexpectedEOF) {
			l.ended = io.EOF
		}
		if bytes.HasPrefix(l.buffer[:l.to], byteOrderMark) {
			l.from = len(byteOrderMark)
		}
		return
	case len(l.buffer) > maxKept && len(unread) < lineBuffer/2:
		l.buffer = make([]byte, lineBuffer)
		l.from, l.to = 0, copy(l.buffer, unread)
	case len(l.buffer)-l.to >= lineBuffer/2:
	case l.from > 0:
		l.from, l.to = 0, copy(l.buffer, unread)
	default:
		// No more than it takes to know that the line is too long.
		size := min(2*len(l.buffer), max(l.limit, len(l.buffer))+lineBuffer)
		l.buffer = append(make([]byte, 0, size), l.buffer...)[:size]
	}
	n, err := l.source.Read(l.buffer[l.to:])
	l.to += n
	l.ended = err
}

// A RowCutter cuts CSV text into rows. Empty lines are passed over; whatever has
// a quote that isn't closed, or is longer than the limit, is a line with Err.
type RowCutter struct {
	rows *schemas.RowReader
	next int64   // number of the line after the last row
	head int     // blank lines before the header, not yet reported
	held *cutRow // met behind other rows
}

// A cutRow is the beginning of a row beyond the limit, which makes a chunk of its
// own.
type cutRow struct {
	row    []byte // valid until the next row is read
	number int64
	err    error
}

func (r *cutRow) put(c *Chunk) {
	c.Data = append(c.Data, r.row...)
	c.Lines = append(c.Lines, Line{To: len(c.Data), Number: r.number, Err: r.err})
	c.IsCut = true
}

// NewRowCutter returns a cutter of rows of at most limit bytes.
func NewRowCutter(source io.Reader, limit int) *RowCutter {
	return &RowCutter{rows: schemas.NewRowReader(source, limit), next: 1}
}

// Header takes the first row; nil if there is none. The caller owns it.
func (r *RowCutter) Header() ([]byte, error) {
	row, number, err := r.rows.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.head = int(number - r.next)
	r.next = number + 1 + int64(bytes.Count(row, []byte{'\n'}))
	return bytes.Clone(row), nil
}

// Cut fills c with the next rows.
func (r *RowCutter) Cut(c *Chunk) error {
	c.reset()
	c.Blank, r.head = r.head, 0
	if r.held != nil {
		r.held.put(c)
		r.held = nil
		return nil
	}
	for !c.isFull() {
		row, number, err := r.rows.Next()
		var reject *schemas.Reject
		if err != nil && !errors.As(err, &reject) {
			if errors.Is(err, io.EOF) {
				c.Blank += int(number - r.next)
				r.next = number
				if len(c.Lines) > 0 {
					return nil // the next call meets the end again
				}
			}
			return err
		}
		c.Blank += int(number - r.next)
		r.next = number + 1
		if reject == nil {
			r.next += int64(bytes.Count(row, []byte{'\n'}))
		}
		if reject != nil && reject.Code == schemas.RejectLineTooLong {
			r.held = &cutRow{row, number, reject}
			if len(c.Lines) == 0 {
				r.held.put(c)
				r.held = nil
			}
			return nil
		}
		line := Line{From: len(c.Data), Number: number}
		if reject != nil {
			line.Err = reject
		}
		c.Data = append(c.Data, row...)
		line.To = len(c.Data)
		c.Lines = append(c.Lines, line)
	}
	return nil
}

// Rest writes what is left of the row that IsCut spoke of.
func (r *RowCutter) Rest(w io.Writer) error { return r.rows.Rest(w) }
