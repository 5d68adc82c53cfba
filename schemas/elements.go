package schemas

import "unicode/utf8"

// A Span is a part of a text: text[Start:End].
type Span struct{ Start, End int }

// Elements appends to dst where the elements stand of the array that a JSON object, data,
// has under a name, without the commas and white space between them. All of data is held
// to what Decode asks of JSON; ok is false if it isn't that strict, is no object, or
// hasn't the name with an array. What has been decoded before is no longer valid.
func (d *Decoder) Elements(dst []Span, data []byte, name string) (spans []Span, ok bool) {
	d.Reset()
	d.begin()
	i := space(data, 0)
	if !utf8.Valid(data) || i >= len(data) || data[i] != '{' {
		return dst, false
	}
	seen, found := keySet{}, false
	i, more := d.firstMember(data, i)
	for more {
		var key string
		if key, i = d.key(data, i); i < 0 || !d.addKey(&seen, key) {
			return dst, false
		}
		if key == name && data[i] == '[' {
			found = true
			dst, i = d.elements(dst, data, i)
		} else {
			i = d.value(data, i, 1)
		}
		if i < 0 {
			return dst, false
		}
		i, more = d.nextMember(data, i)
	}
	return dst, found && i >= 0 && space(data, i) == len(data)
}

func (d *Decoder) elements(dst []Span, data []byte, at int) ([]Span, int) {
	i, more := d.firstElement(data, at)
	for more {
		end := d.value(data, i, 2)
		if end < 0 {
			return dst, end
		}
		dst = append(dst, Span{i, end})
		i, more = d.nextElement(data, end)
	}
	return dst, i
}
