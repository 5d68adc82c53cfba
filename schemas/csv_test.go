package schemas

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readRows renders what a RowReader gives, one line for each row.
func readRows(source io.Reader, limit int) []string {
	r := NewRowReader(source, limit)
	var got []string
	for {
		row, line, err := r.Next()
		var reject *Reject
		switch {
		case errors.As(err, &reject):
			got = append(got, fmt.Sprintf("%d %s %q", line, reject.Code, row))
		case err != nil:
			if !errors.Is(err, io.EOF) {
				got = append(got, err.Error())
			}
			return got
		default:
			got = append(got, fmt.Sprintf("%d %q", line, row))
		}
	}
}

func TestRowReader(t *testing.T) {
	tests := map[string][]string{
		"":                               nil,
		"\n\r\n\n":                       nil,
		"a,b\n1,2\n":                     {`1 "a,b"`, `2 "1,2"`},
		"a,b\r\n1,2":                     {`1 "a,b"`, `2 "1,2"`},
		"\xef\xbb\xbfa\nb":               {`1 "a"`, `2 "b"`},
		"\xef\xbb\xbf":                   nil,
		"\xef\xbb":                       {`1 "\xef\xbb"`},
		"a\n\n\nb\n":                     {`1 "a"`, `4 "b"`},
		"\"x\ny\"\nb":                    {`1 "\"x\ny\""`, `3 "b"`},
		"\"x\r\ny\",1\r\nb":              {`1 "\"x\r\ny\",1"`, `3 "b"`},
		"\"a\"\"\n\"\"b\"\nc":            {`1 "\"a\"\"\n\"\"b\""`, `3 "c"`},
		"a\"b\nc":                        {`1 "a\"b"`, `2 "c"`},
		"\"a\"b\nc":                      {`1 "\"a\"b"`, `2 "c"`},
		"\"a\"b\"\nc":                    {`1 "\"a\"b\""`, `2 "c"`},
		"a,\"\nc,d\ne":                   {`1 bad_csv "a,\""`, `2 "c,d"`, `3 "e"`},
		"\"":                             {`1 bad_csv "\""`},
		"\"\"":                           {`1 "\"\""`},
		"a\n\"b\nc\n\"\"\"d\nef":         {`1 "a"`, `2 "\"b\nc\n\"\"\"d"`, `5 "ef"`},
		"a\rb\n":                         {`1 "a\rb"`},
		"123456789012\nb":                {`1 "123456789012"`, `2 "b"`},
		"123456789012\r\nb":              {`1 "123456789012"`, `2 "b"`},
		"1234567890123\nb":               {`1 line_too_long "123456789012"`, `2 "b"`},
		"1234567890123":                  {`1 line_too_long "123456789012"`},
		"1234567890123\r\nb":             {`1 line_too_long "123456789012"`, `2 "b"`},
		"12345678901234567890,3456\nb\n": {`1 line_too_long "123456789012"`, `2 "b"`},
		"\"3456789012345\"\nb":           {`1 line_too_long "\"34567890123"`, `2 "b"`},
		"\"34\n678901234567\"\nb":        {`1 bad_csv "\"34"`, `2 line_too_long "678901234567"`, `3 "b"`},
		"\"34\n6789012\"\nb":             {`1 "\"34\n6789012\""`, `3 "b"`},
		"\"34\n67890123\"\nb":            {`1 bad_csv "\"34"`, `2 "67890123\""`, `3 "b"`},
	}
	for in, want := range tests {
		assert.Equal(t, want, readRows(strings.NewReader(in), 12), "%q", in)
		assert.Equal(t, want, readRows(iotest.OneByteReader(strings.NewReader(in)), 12), "%q byte by byte", in)
		assert.Equal(t, want, readRows(iotest.DataErrReader(strings.NewReader(in)), 12), "%q with its end", in)
	}
}

func TestRowReaderGrowsAndMoves(t *testing.T) {
	var text strings.Builder
	var want []string
	for i := range 500 {
		row := strings.Repeat("x", i*7) + `,"` + strings.Repeat("\n", i%3) + `"`
		line := 1 + strings.Count(text.String(), "\n")
		text.WriteString(row + "\n")
		want = append(want, fmt.Sprintf("%d %q", line, row))
	}
	long := strings.Repeat("y", 200<<10)
	want = append(want, fmt.Sprintf("%d %q", 1+strings.Count(text.String(), "\n"), long))
	text.WriteString(long)
	assert.Equal(t, want, readRows(strings.NewReader(text.String()), 1<<20))
	assert.Equal(t, want, readRows(iotest.HalfReader(strings.NewReader(text.String())), 1<<20))
}

func TestRowReaderPassesReadErrorsOn(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("disk on fire")))
	assert.Equal(t, []string{`1 "a"`, "disk on fire"}, readRows(broken, 100), "the row cut short is not handed out")
	assert.Equal(t, []string{io.ErrNoProgress.Error()}, readRows(stuck{}, 100))
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// Next to 16 MiB, whatever is in them, must not take quadratic time.
func TestRowReaderOnHostileText(t *testing.T) {
	const limit = 1 << 20
	for _, unit := range []string{"x", ",", `"`, `""`, `",`, "\",\n", "\"\n", `"x`} {
		text := strings.Repeat(unit, 4<<20/len(unit))
		n := 0
		r := NewRowReader(strings.NewReader(text), limit)
		for {
			_, _, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			n++
		}
		assert.Positive(t, n, unit)
	}
}

func FuzzRowReader(f *testing.F) {
	f.Add("a,b\n\"x\ny\",2\r\n")
	f.Add("\"\"\"\",\n\n\"\n")
	f.Add("\xef\xbb\xbfa\"b")
	f.Fuzz(func(t *testing.T, text string) {
		whole := readRows(strings.NewReader(text), 1<<16)
		if parts := readRows(iotest.OneByteReader(strings.NewReader(text)), 1<<16); !slices.Equal(whole, parts) {
			t.Fatalf("%q: %q in one, %q byte by byte", text, whole, parts)
		}
		// The standard library, where it has no complaint, sees the same cells.
		if strings.Contains(strings.ReplaceAll(text, "\r\n", "\n"), "\r") {
			t.Skip("a carriage return means other things to it")
		}
		std := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, byteOrderMark)))
		std.FieldsPerRecord = -1
		want, err := std.ReadAll()
		if err != nil {
			return
		}
		var got [][]string
		r := NewRowReader(strings.NewReader(text), 1<<16)
		for {
			row, _, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var d Decoder
			var cells []string
			for i := 0; i <= len(row); i++ {
				cell, _, next := d.cell(row, i)
				if next < 0 {
					t.Fatalf("%q: misplaced quote in %q", text, row)
				}
				cells = append(cells, strings.ReplaceAll(cell, "\r\n", "\n"))
				i = next
			}
			got = append(got, cells)
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
	})
}

func compileCSV(t *testing.T, header, types string) *CSVColumns {
	t.Helper()
	kinds, err := ParseCSVTypes(types)
	require.NoError(t, err)
	c, err := CompileCSV([]byte(header), kinds)
	require.NoError(t, err)
	return c
}

func TestCSVDecode(t *testing.T) {
	f := func(header, types, row string, want Activity) {
		t.Helper()
		var d Decoder
		var a Activity
		require.NoError(t, compileCSV(t, header, types).Decode([]byte(row), &d, &a), row)
		assert.Equal(t, want, a, row)
	}
	text := func(key, s string) Attribute { return Attribute{key, Value{Kind: KindString, Text: s}} }
	number := func(key, s string) Attribute { return Attribute{key, Value{Kind: KindNumber, Text: s}} }
	boolean := func(key string, b bool) Attribute { return Attribute{key, Value{Kind: KindBool, Bool: b}} }

	f("user_id", "", "u-17", Activity{UserID: "u-17"})
	f("user_id", "", `""`, Activity{})
	f(`"user_id","a ""b"""`, "", `"u,1","x"`, Activity{UserID: "u,1", Attributes: []Attribute{text(`a "b"`, "x")}})
	f("id,timestamp,user_id", "", "e1,1790000000000,u", Activity{UserID: "u", ID: "e1", HasID: true, Timestamp: 1790000000000, HasTimestamp: true})
	f("id,timestamp,user_id", "", `"",2026-01-02T03:04:05Z,u`, Activity{UserID: "u", HasID: true, Timestamp: 1767323045000, HasTimestamp: true})
	f("id,timestamp,user_id", "", `,"",u`, Activity{UserID: "u"})
	f("id,timestamp,user_id", "id:string,timestamp:number", `7,8,u`, Activity{UserID: "u", Attributes: []Attribute{text("id", "7"), number("timestamp", "8")}})

	f("user_id,a,b,c,d,e,f,g,h,i,j", "", `u,42,-1.50e+3,true,false,True,007,+1,, x,"1"`, Activity{UserID: "u", Attributes: []Attribute{
		number("a", "42"), number("b", "-1.50e+3"), boolean("c", true), boolean("d", false), text("e", "True"), text("f", "007"), text("g", "+1"),
		text("i", " x"), number("j", "1"),
	}})
	f("user_id,s,n,b,t", "s:string,n:number,b:boolean,t:boolean", `u,42,1.0,TRUE,false`, Activity{UserID: "u", Attributes: []Attribute{
		text("s", "42"), number("n", "1.0"), boolean("b", true), boolean("t", false),
	}})
	f("user_id,s,n,b,i", "s:string,n:number,b:boolean", `u,,,,`, Activity{UserID: "u"})
	f("user_id,s,n,b,i", "s:string,n:number,b:boolean", `u,"","","",""`, Activity{UserID: "u", Attributes: []Attribute{text("s", ""), text("i", "")}})
	f("user_id,a", "", "u,\"x\r\ny\"", Activity{UserID: "u", Attributes: []Attribute{text("a", "x\r\ny")}})
	f("user_id,é", "", "ü,😀", Activity{UserID: "ü", Attributes: []Attribute{text("é", "😀")}})
}

func TestCSVRejects(t *testing.T) {
	c := compileCSV(t, "user_id,timestamp,age,beta", "age:number,beta:boolean")
	var d Decoder
	var a Activity
	for row, want := range map[string]string{
		`u,,,,`:                       "bad_csv: more cells than columns",
		`u,,`:                         "bad_csv: fewer cells than columns",
		`u,,,"x`:                      "bad_csv: misplaced quote",
		`u,,,"x"y`:                    "bad_csv: misplaced quote",
		`u,,,x"y`:                     "bad_csv: misplaced quote",
		`,,,`:                         "missing_user_id: user_id is missing",
		`u,,old,`:                     "wrong_type: attributes.age: want a number",
		`u,,0x10,`:                    "wrong_type: attributes.age: want a number",
		`u,,NaN,`:                     "wrong_type: attributes.age: want a number",
		`u,,1 ,`:                      "wrong_type: attributes.age: want a number",
		`u,,,1`:                       "wrong_type: attributes.beta: want a boolean",
		`u,tomorrow,,`:                "wrong_type: timestamp: want an integer of milliseconds or an RFC 3339 time",
		`u,-,,`:                       "wrong_type: timestamp: want an integer of milliseconds or an RFC 3339 time",
		`u,253402300800000,,`:         "out_of_range: timestamp: not in the years 0000 to 9999",
		"u\xff,,,":                    "not_utf8: invalid UTF-8",
		"\"u\xff\",,,":                "not_utf8: invalid UTF-8",
		`u,99999999999999999999999,,`: "out_of_range: timestamp: not in the years 0000 to 9999",
	} {
		err := c.Decode([]byte(row), &d, &a)
		assert.EqualError(t, err, "record rejected: "+want, row)
	}
	require.NoError(t, c.Decode([]byte("u,,,"), &d, &a))
}

func TestCompileCSVReportsAllFaults(t *testing.T) {
	_, err := CompileCSV([]byte(`a,a,,id`), map[string]CSVType{"b": CSVNumber, "c": CSVString})
	assert.EqualError(t, err, "read csv header: two columns are called \"a\"\ncolumn 3 has no name\nno column is called user_id\n"+
		"no column is called \"b\", which has a type\nno column is called \"c\", which has a type")
	_, err = CompileCSV([]byte(`user_id`), map[string]CSVType{"user_id": CSVNumber})
	assert.EqualError(t, err, "read csv header: user_id cannot have a type")
	_, err = CompileCSV([]byte(`user_id,"x`), nil)
	assert.EqualError(t, err, "read csv header: misplaced quote")
	_, err = CompileCSV([]byte("user_id,\xff"), nil)
	assert.EqualError(t, err, "read csv header: invalid UTF-8")
}

func TestParseCSVTypes(t *testing.T) {
	types, err := ParseCSVTypes("age:number, beta:boolean,a:b:string")
	require.NoError(t, err)
	assert.Equal(t, map[string]CSVType{"age": CSVNumber, "beta": CSVBoolean, "a:b": CSVString}, types)
	_, err = ParseCSVTypes("age,:number,x:int,y:string,y:number,")
	assert.EqualError(t, err, "parse column types: \"age\" is not column:type\n\":number\" is not column:type\n"+
		"column \"x\": unknown type \"int\", want string, number or boolean\ncolumn \"y\" has two types\n\"\" is not column:type")
}

func TestCSVDoesNotAllocate(t *testing.T) {
	c := compileCSV(t, "user_id,plan,age,beta,note", "")
	row := []byte(`user-1,gold,31,true,"said ""hi"""`)
	var d Decoder
	var a Activity
	allocs := testing.AllocsPerRun(100, func() {
		if err := c.Decode(row, &d, &a); err != nil {
			t.Fatal(err)
		}
	})
	assert.Zero(t, allocs)
}

func BenchmarkCSV(b *testing.B) {
	row := "user-0048213,evt-9f27c1,1790000000000,gold,31,true,DE,4.12.1\n"
	text := "user_id,id,timestamp,plan,age,beta,country,app_version\n" + strings.Repeat(row, 1000)
	types, _ := ParseCSVTypes("app_version:string")
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			r := NewRowReader(strings.NewReader(text), 1<<20)
			header, _, _ := r.Next()
			c, err := CompileCSV(header, types)
			if err != nil {
				b.Fatal(err)
			}
			var d Decoder
			var a Activity
			for {
				row, _, err := r.Next()
				if err != nil {
					break
				}
				if err := c.Decode(row, &d, &a); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("encoding-csv-cells-only", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			r := csv.NewReader(strings.NewReader(text))
			r.ReuseRecord = true
			for {
				if _, err := r.Read(); err != nil {
					break
				}
			}
		}
	})
}
