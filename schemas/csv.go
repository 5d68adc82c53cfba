package schemas

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// RowReader cuts CSV text into rows. It decides only where rows end, so that
// the rows can be decoded elsewhere, by several workers.
//
// A row ends at a line feed outside quotes, with or without a carriage return
// before it, or at the end of the text. Empty lines and a byte order mark at
// the beginning are skipped. A quote counts only at the beginning of a cell.
// It is not safe for concurrent use.
//
// Source: RFC 4180.
type RowReader struct {
	source io.Reader
	limit  int
	buffer []byte // the unread part is buffer[from:to]
	from   int
	to     int
	begun  bool
	ended  error
	line   int64 // of the next row
	isOpen bool  // the rest of a line beyond the limit has not been read

	// How far the next row has been scanned, relative to from.
	scanned int
	state   rowState
}

type rowState uint8

const (
	cellStart rowState = iota
	inPlainCell
	inQuotedCell
	afterQuote // in a quoted cell, after a quote that closes it or begins a pair
)

// NewRowReader returns a reader of rows of at most limit bytes.
func NewRowReader(source io.Reader, limit int) *RowReader {
	return &RowReader{source: source, limit: limit, line: 1}
}

// Next returns the next row without its line end, and the number of its first
// line, from 1. The row is valid until the next call.
//
// The error is io.EOF at the end and a read error of the source otherwise,
// after which reading is over; or a *Reject, with which comes the line at
// fault, and after which reading goes on with the line after it. Rejected are
// lines with a quote that is not closed before the limit or the end of the
// text, and lines beyond the limit, of which row is the beginning; Rest reads
// what follows it, and Next passes over it.
func (r *RowReader) Next() (row []byte, line int64, err error) {
	if r.isOpen {
		if err := r.Rest(io.Discard); err != nil {
			return nil, r.line, err
		}
	}
	for {
		n := r.scan()
		size := r.to - r.from
		switch {
		case n >= 0 && n <= r.limit+1 && len(bytes.TrimSuffix(r.buffer[r.from:r.from+n], []byte{'\r'})) <= r.limit:
			if row, line = r.take(n); len(row) > 0 {
				return row, line, nil
			}
		case n >= 0 || r.scanned == r.limit+2:
			return r.tooLong()
		case r.ended == nil:
			r.fill()
		case !errors.Is(r.ended, io.EOF) || size == 0:
			return nil, r.line, r.ended
		case size > r.limit:
			return r.tooLong()
		case r.state == inQuotedCell:
			return r.openQuote("quote not closed before the end")
		default:
			if row, line = r.take(size); len(row) > 0 {
				return row, line, nil
			}
		}
	}
}

// scan goes on with the row until its line feed and returns that one's place,
// or -1 when it is not in the buffer or beyond the limit and a line end.
func (r *RowReader) scan() int {
	window := r.buffer[r.from:r.to]
	window = window[:min(len(window), r.limit+2)]
	i := r.scanned
	if i == 0 { // most rows are one line without quotes
		if n := bytes.IndexByte(window, '\n'); n >= 0 && bytes.IndexByte(window[:n], '"') < 0 {
			return n
		}
	}
	for i < len(window) {
		switch c := window[i]; {
		case r.state == inQuotedCell:
			n := bytes.IndexByte(window[i:], '"')
			if n < 0 {
				r.scanned = len(window)
				return -1
			}
			i += n
			r.state = afterQuote
		case c == '\n':
			return i
		case c == ',':
			r.state = cellStart
		case c == '"' && r.state != inPlainCell:
			r.state = inQuotedCell
		default: // after a quote this is a fault, but of this row alone
			r.state = inPlainCell
		}
		i++
	}
	r.scanned = i
	return -1
}

// take cuts off the row of n bytes and the line feed after it.
func (r *RowReader) take(n int) ([]byte, int64) {
	line := r.line
	row := r.buffer[r.from : r.from+n]
	r.line += int64(bytes.Count(row, []byte{'\n'})) + 1
	r.from = min(r.from+n+1, r.to)
	r.scanned, r.state = 0, cellStart
	return bytes.TrimSuffix(row, []byte{'\r'}), line
}

// tooLong rejects a row beyond the limit: its one line, or, when it has more,
// its first.
func (r *RowReader) tooLong() ([]byte, int64, error) {
	if bytes.IndexByte(r.buffer[r.from:r.from+r.limit], '\n') >= 0 {
		return r.openQuote(fmt.Sprintf("quote not closed within %d bytes", r.limit))
	}
	line := r.line
	head := r.buffer[r.from : r.from+r.limit]
	r.from += r.limit
	r.isOpen = true
	return head, line, LineTooLong(r.limit)
}

// openQuote rejects the first line of a row that has no end, and goes on with
// the line after it, since that quote is more likely a stray one than all the
// rest one cell.
func (r *RowReader) openQuote(what string) ([]byte, int64, error) {
	n := bytes.IndexByte(r.buffer[r.from:r.to], '\n')
	if n < 0 {
		n = r.to - r.from
	}
	row, line := r.take(n)
	return row, line, newReject(RejectBadCSV, "", what, -1)
}

// Rest writes what follows the beginning of a line beyond the limit, up to its
// line feed, holding no more of it than a buffer. It may be called once after
// Next has rejected such a line. The error is w's, or the source's.
func (r *RowReader) Rest(w io.Writer) error {
	if !r.isOpen {
		return nil
	}
	for r.isOpen {
		window := r.buffer[r.from:r.to]
		n := bytes.IndexByte(window, '\n')
		isEnd := n >= 0
		if !isEnd {
			n = len(window)
		}
		if _, err := w.Write(window[:n]); err != nil {
			return err
		}
		r.from += n
		switch {
		case isEnd:
			r.from++
			r.isOpen = false
		case r.ended == nil:
			r.fill()
		case errors.Is(r.ended, io.EOF):
			r.isOpen = false
		default:
			return r.ended
		}
	}
	r.line++
	r.scanned, r.state = 0, cellStart
	return nil
}

// fill reads more, making room first.
func (r *RowReader) fill() {
	switch {
	case r.buffer == nil:
		r.buffer = make([]byte, 64<<10)
	case r.to == len(r.buffer) && r.from > 0:
		r.to = copy(r.buffer, r.buffer[r.from:r.to])
		r.from = 0
	case r.to == len(r.buffer):
		r.buffer = append(r.buffer, make([]byte, len(r.buffer))...)
	}
	r.read(1)
	if !r.begun {
		r.begun = true
		r.read(len(byteOrderMark) - r.to)
		if bytes.HasPrefix(r.buffer[:r.to], []byte(byteOrderMark)) {
			r.from = len(byteOrderMark)
		}
	}
}

const (
	byteOrderMark = "\xef\xbb\xbf"
	maxEmptyReads = 100
)

// read reads at least so many bytes, or to the source's end.
func (r *RowReader) read(atLeast int) {
	for empty := 0; atLeast > 0 && r.ended == nil; {
		n, err := r.source.Read(r.buffer[r.to:])
		r.to += n
		r.ended = err
		atLeast -= n
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			r.ended = io.ErrNoProgress
		}
	}
}
