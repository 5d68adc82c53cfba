package fileio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"sortition/schemas"
)

// cutAll reads everything and renders it, one record a line, chunk by chunk.
func cutAll(t *testing.T, c Cutter) (chunks []string, blank int) {
	t.Helper()
	for {
		var chunk Chunk
		err := c.Cut(&chunk)
		blank += chunk.Blank
		if errors.Is(err, io.EOF) {
			require.Empty(t, chunk.Lines)
			return chunks, blank
		}
		require.NoError(t, err)
		require.NotEmpty(t, chunk.Lines)
		var b strings.Builder
		for _, l := range chunk.Lines {
			text := string(chunk.Data[l.From:l.To])
			if chunk.IsCut {
				var rest bytes.Buffer
				require.NoError(t, c.Rest(&rest))
				text += rest.String()
			}
			code := ""
			var reject *schemas.Reject
			if errors.As(l.Err, &reject) {
				code = " " + string(reject.Code)
			}
			fmt.Fprintf(&b, "%d%s %q\n", l.Number, code, text)
		}
		chunks = append(chunks, b.String())
	}
}

// wantLines is the plain way to cut lines.
func wantLines(text string, limit int) (lines []string, blank int) {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	number := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		number++
		switch {
		case len(line) > limit:
			lines = append(lines, fmt.Sprintf("%d line_too_long %q", number, line))
		case strings.Trim(line, " \t\r") == "":
			blank++
		default:
			lines = append(lines, fmt.Sprintf("%d %q", number, line))
		}
	}
	return lines, blank
}

// Whatever the text, and however the reads come in, the lines are those that a
// plain split gives, and chunks end at the same places.
func TestLineCutter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "bc", "\n", "\n", "\r\n", " ", "\t", "\xef\xbb\xbf", "longer than that", "\xff"}
	for range 3000 {
		var b strings.Builder
		for range r.IntN(40) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		text, limit := b.String(), 1+r.IntN(30)
		want, wantBlank := wantLines(text, limit)
		got, blank := cutAll(t, NewLineCutter(strings.NewReader(text), limit))
		require.Equal(t, strings.Join(want, "\n"), strings.TrimSuffix(strings.Join(got, ""), "\n"), "%q limit %d", text, limit)
		require.Equal(t, wantBlank, blank, "%q", text)
		for _, source := range []io.Reader{
			iotest.OneByteReader(strings.NewReader(text)), iotest.HalfReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text)),
		} {
			again, _ := cutAll(t, NewLineCutter(source, limit))
			require.Equal(t, got, again, "%q limit %d", text, limit)
		}
	}
}

// Lines of all sizes around the buffers.
func TestLineCutterLargeLines(t *testing.T) {
	const limit = 3 << 20
	var text strings.Builder
	for i, n := range []int{1, lineBuffer - 1, lineBuffer, lineBuffer + 1, 5, maxKept, maxKept + 1, 10, limit, limit + 1, 3, 3*limit + 7, 4, 2 * lineBuffer} {
		text.WriteString(strings.Repeat(string(rune('a'+i)), n) + "\n")
	}
	want, _ := wantLines(text.String(), limit)
	for _, source := range []io.Reader{strings.NewReader(text.String()), iotest.HalfReader(strings.NewReader(text.String()))} {
		got, _ := cutAll(t, NewLineCutter(source, limit))
		isSame := strings.Join(want, "\n")+"\n" == strings.Join(got, "")
		require.True(t, isSame, "lines differ") // without printing megabytes of them
	}
}

func TestChunksEndByTheText(t *testing.T) {
	text := strings.Repeat("x\n", 3*ChunkLines+5)
	got, _ := cutAll(t, NewLineCutter(iotest.HalfReader(strings.NewReader(text)), 10))
	require.Len(t, got, 4)
	require.Equal(t, ChunkLines, strings.Count(got[0], "\n"))
	require.Equal(t, 5, strings.Count(got[3], "\n"))

	line := strings.Repeat("y", ChunkBytes/2) + "\n"
	got, _ = cutAll(t, NewLineCutter(strings.NewReader(strings.Repeat(line, 5)), 1<<20))
	require.Len(t, got, 3)
}

func TestCutterReportsReadErrors(t *testing.T) {
	broken := errors.New("broken")
	source := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken))
	require.ErrorIs(t, NewLineCutter(source, 10).Cut(&Chunk{}), broken)
	source = io.MultiReader(strings.NewReader("a long line without an end"), iotest.ErrReader(broken))
	l, chunk := NewLineCutter(source, 4), Chunk{}
	require.NoError(t, l.Cut(&chunk))
	require.True(t, chunk.IsCut)
	require.ErrorIs(t, l.Rest(io.Discard), broken)
	source = io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken))
	require.ErrorIs(t, NewRowCutter(source, 10).Cut(&Chunk{}), broken)
}

func TestRowCutter(t *testing.T) {
	r := NewRowCutter(strings.NewReader("\xef\xbb\xbf\nuser_id,a\r\n1,\"x\ny\"\n\n\r\n2,\"\"\"\n3,b\n\n"), 100)
	header, err := r.Header()
	require.NoError(t, err)
	require.Equal(t, "user_id,a", string(header))
	got, blank := cutAll(t, r)
	// Line 7 begins a quote that nothing closes; the row after it is a row again.
	require.Equal(t, "3 \"1,\\\"x\\ny\\\"\"\n7 bad_csv \"2,\\\"\\\"\\\"\"\n8 \"3,b\"\n", strings.Join(got, ""))
	require.Equal(t, 4, blank)

	// A row beyond the limit is kept whole, in a chunk of its own, whoever reads.
	long := strings.Repeat("x", 250)
	text := "user_id,a\n1,b\n" + long + ",c\n2,d\n" + long
	want := []string{"2 \"1,b\"\n", "3 line_too_long \"" + long + ",c\"\n", "4 \"2,d\"\n", "5 line_too_long \"" + long + "\"\n"}
	for _, source := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
		r = NewRowCutter(source, 100)
		_, err = r.Header()
		require.NoError(t, err)
		got, _ = cutAll(t, r)
		require.Equal(t, want, got)
	}
	// Who doesn't want the rest gets the next row all the same.
	r = NewRowCutter(strings.NewReader(text), 100)
	numbers := []int64{}
	for chunk := (Chunk{}); r.Cut(&chunk) == nil; {
		for _, l := range chunk.Lines {
			numbers = append(numbers, l.Number)
		}
	}
	require.Equal(t, []int64{1, 2, 3, 4, 5}, numbers)

	r = NewRowCutter(strings.NewReader(""), 100)
	header, err = r.Header()
	require.NoError(t, err)
	require.Nil(t, header)
	got, _ = cutAll(t, r)
	require.Empty(t, got)
}
