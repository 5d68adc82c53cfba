package schemas

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// CSVType is how a column's cells become attribute values.
type CSVType uint8

// The column types.
const (
	// CSVInferred looks at each cell: one that is a JSON number is a number,
	// true and false are booleans, all else is a string. 007, +1, True and NULL
	// are strings.
	CSVInferred CSVType = iota
	CSVString
	// CSVNumber takes JSON numbers, whose literals are kept.
	CSVNumber
	// CSVBoolean takes true and false in any case.
	CSVBoolean
)

// ParseCSVTypes reads column types such as age:number,beta:boolean,plan:string.
// A column's name may hold colons; the type is what follows the last one. The
// error names every fault.
func ParseCSVTypes(text string) (map[string]CSVType, error) {
	types := make(map[string]CSVType)
	if text == "" {
		return types, nil
	}
	var faults []error
	for item := range strings.SplitSeq(text, ",") {
		colon := strings.LastIndexByte(item, ':')
		if colon <= 0 {
			faults = append(faults, fmt.Errorf("%q is not column:type", item))
			continue
		}
		name := strings.TrimSpace(item[:colon])
		if _, ok := types[name]; ok {
			faults = append(faults, fmt.Errorf("column %q has two types", name))
		}
		switch word := strings.TrimSpace(item[colon+1:]); word {
		case "string":
			types[name] = CSVString
		case "number":
			types[name] = CSVNumber
		case "boolean":
			types[name] = CSVBoolean
		default:
			faults = append(faults, fmt.Errorf("column %q: unknown type %q, want string, number or boolean", name, word))
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("parse column types: %w", errors.Join(faults...))
	}
	return types, nil
}

// CSVColumns decodes rows as activities. It is made from the header by
// CompileCSV, never changes, and is safe for concurrent use by workers that
// each have their own Decoder.
type CSVColumns struct{ columns []csvColumn }

type csvColumn struct {
	name string
	role csvRole
	kind CSVType
}

type csvRole uint8

const (
	csvAttribute csvRole = iota
	csvUserID
	csvID
	csvTimestamp
)

// CompileCSV reads a CSV header. The column user_id is required; id and
// timestamp, where there are such columns, fill those fields; every other
// column is the attribute of its name. A column that types names is an
// attribute of that type, even if it is called id or timestamp. The error
// names every fault.
func CompileCSV(header []byte, types map[string]CSVType) (*CSVColumns, error) {
	c := &CSVColumns{}
	var faults []error
	var d Decoder
	if !utf8.Valid(header) {
		return nil, errors.New("read csv header: invalid UTF-8")
	}
	seen := make(map[string]bool)
	for i := 0; i <= len(header); i++ {
		name, _, next := d.cell(header, i)
		if next < 0 {
			return nil, errors.New("read csv header: misplaced quote")
		}
		i = next
		kind, isTyped := types[name]
		column := csvColumn{name: strings.Clone(name), kind: kind}
		switch {
		case name == "":
			faults = append(faults, fmt.Errorf("column %d has no name", len(c.columns)+1))
		case seen[name]:
			faults = append(faults, fmt.Errorf("two columns are called %q", name))
		case name == "user_id":
			column.role = csvUserID
			if isTyped {
				faults = append(faults, errors.New("user_id cannot have a type"))
			}
		case name == "id" && !isTyped:
			column.role = csvID
		case name == "timestamp" && !isTyped:
			column.role = csvTimestamp
		}
		seen[column.name] = true
		c.columns = append(c.columns, column)
	}
	if !seen["user_id"] {
		faults = append(faults, errors.New("no column is called user_id"))
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if !seen[name] {
			faults = append(faults, fmt.Errorf("no column is called %q, which has a type", name))
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("read csv header: %w", errors.Join(faults...))
	}
	return c, nil
}

// Decode reads one row into a, with the lifetimes of Decoder.Decode. The error
// is nil or a *Reject.
//
// An empty cell is an absent field, a quoted empty cell the empty string; but
// in a number or boolean column that is absent, too. Quotes have no other
// meaning: "42" in quotes is inferred a number like 42. Spaces belong to the
// cell.
func (c *CSVColumns) Decode(row []byte, d *Decoder, a *Activity) error {
	d.Reset()
	return c.DecodeMore(row, d, a)
}

// DecodeMore is to Decode what Decoder.DecodeMore is to Decoder.Decode.
func (c *CSVColumns) DecodeMore(row []byte, d *Decoder, a *Activity) error {
	*a = Activity{}
	if !utf8.Valid(row) {
		return newReject(RejectNotUTF8, "", "invalid UTF-8", invalidUTF8(row))
	}
	first := len(d.attributes)
	hasUserID := false
	at := 0
	for n := range c.columns {
		column := &c.columns[n]
		if at > len(row) {
			return newReject(RejectBadCSV, "", "fewer cells than columns", len(row))
		}
		text, isQuoted, next := d.cell(row, at)
		if next < 0 {
			return newReject(RejectBadCSV, "", "misplaced quote", at)
		}
		if text != "" || isQuoted {
			switch column.role {
			case csvUserID:
				a.UserID, hasUserID = text, true
			case csvID:
				a.ID, a.HasID = text, true
			case csvTimestamp:
				if err := csvTime(text, at, a); err != nil {
					return err
				}
			case csvAttribute:
				if !d.addCell(column, text) {
					return newReject(RejectWrongType, "attributes."+renderKey(column.name), "want a "+column.kind.String(), at)
				}
			}
		}
		at = next + 1
	}
	if at <= len(row) {
		return newReject(RejectBadCSV, "", "more cells than columns", at)
	}
	if !hasUserID {
		return newReject(RejectMissingUserID, "", "user_id is missing", -1)
	}
	if n := len(d.attributes); n > first {
		a.Attributes = d.attributes[first:n:n]
	}
	return nil
}

// String returns the type's name.
func (t CSVType) String() string {
	switch t {
	case CSVString:
		return "string"
	case CSVNumber:
		return "number"
	case CSVBoolean:
		return "boolean"
	case CSVInferred:
	}
	return "inferred"
}

func csvTime(text string, at int, a *Activity) error {
	if text == "" {
		return nil
	}
	ms, isInteger, inRange := integerMillis(text)
	switch {
	case isInteger && !inRange:
		return newReject(RejectOutOfRange, "timestamp", "not in the years 0000 to 9999", at)
	case !isInteger:
		var ok bool
		if ms, ok = parseTime(text); !ok {
			return newReject(RejectWrongType, "timestamp", "want an integer of milliseconds or an RFC 3339 time", at)
		}
	}
	a.Timestamp, a.HasTimestamp = ms, true
	return nil
}

// addCell adds the attribute of one cell that is not absent, and reports
// whether it fits its column.
func (d *Decoder) addCell(column *csvColumn, text string) bool {
	v := Value{Kind: KindString, Text: text}
	switch column.kind {
	case CSVInferred:
		switch {
		case text == "true":
			v = Value{Kind: KindBool, Bool: true}
		case text == "false":
			v = Value{Kind: KindBool}
		case isNumber(text):
			v.Kind = KindNumber
		}
	case CSVNumber:
		if text == "" {
			return true
		}
		if !isNumber(text) {
			return false
		}
		v.Kind = KindNumber
	case CSVBoolean:
		switch {
		case text == "":
			return true
		case strings.EqualFold(text, "true"):
			v = Value{Kind: KindBool, Bool: true}
		case strings.EqualFold(text, "false"):
			v = Value{Kind: KindBool}
		default:
			return false
		}
	case CSVString:
	}
	d.attributes = append(d.attributes, Attribute{column.name, v})
	return true
}

func isNumber(text string) bool {
	end, ok := numberEnd(text, 0)
	return ok && end == len(text)
}

// cell reads the cell that begins at row[at], which may be the end of the row,
// and returns the index of the comma after it, or of the row's end; -1 for
// misplaced quotes.
func (d *Decoder) cell(row []byte, at int) (text string, isQuoted bool, next int) {
	if at == len(row) || row[at] != '"' {
		i := at
		for i < len(row) && row[i] != ',' {
			if row[i] == '"' {
				return "", false, -1
			}
			i++
		}
		return alias(row[at:i]), false, i
	}
	start := at + 1
	mark := len(d.unescaped)
	isCopied := false
	for i := start; i < len(row); i++ {
		if row[i] != '"' {
			continue
		}
		if i+1 < len(row) && row[i+1] == '"' {
			d.unescaped = append(d.unescaped, row[start:i+1]...)
			isCopied = true
			i++
			start = i + 1
			continue
		}
		if i+1 < len(row) && row[i+1] != ',' {
			return "", true, -1
		}
		if !isCopied {
			return alias(row[start:i]), true, i + 1
		}
		d.unescaped = append(d.unescaped, row[start:i]...)
		return alias(d.unescaped[mark:]), true, i + 1
	}
	return "", true, -1
}
