package schemas

import "unicode/utf8"

// capturePaths checks the whole record as strictly as Decode does and notes
// where the values at the mapping's source paths stand. The error is nil or a
// *Reject.
func (d *Decoder) capturePaths(data []byte, m *Mapping) error {
	if !utf8.Valid(data) {
		return newReject(RejectNotUTF8, "", "invalid UTF-8", invalidUTF8(data))
	}
	d.begin()
	d.spans = d.spans[:0]
	for range m.slots {
		d.spans = append(d.spans, span{})
	}
	i := space(data, 0)
	if i >= len(data) {
		d.failAt(data, i, "")
		return d.reject()
	}
	if i = d.capture(data, i, 0, m.paths); i < 0 {
		return d.reject()
	}
	if i = space(data, i); i < len(data) {
		d.fail(RejectNotJSON, i, "more text after the record")
		return d.reject()
	}
	return nil
}

// capture is value for a node of the path tree. That tree is no deeper than
// somebody cared to write, so leaving the depth limit to value is enough.
func (d *Decoder) capture(data []byte, at, depth int, n *pathNode) int {
	var i int
	switch {
	case len(n.children) > 0 && data[at] == '{':
		i = d.captureObject(data, at, depth+1, n)
	case len(n.children) > 0 && data[at] == '[':
		i = d.captureArray(data, at, depth+1, n)
	default:
		i = d.value(data, at, depth)
	}
	if i >= 0 && data[at] != 'n' {
		for _, slot := range n.slots {
			d.spans[slot] = span{at, i}
		}
	}
	return i
}

func (d *Decoder) captureObject(data []byte, at, depth int, n *pathNode) int {
	seen := keySet{base: len(d.keys)}
	i, more := d.firstMember(data, at)
	for more {
		keyAt := i
		var key string
		if key, i = d.key(data, i); i < 0 {
			return i
		}
		if !d.addKey(&seen, key) {
			return d.failDuplicate(keyAt, key)
		}
		if child := n.child(key); child != nil {
			i = d.capture(data, i, depth, child)
		} else {
			i = d.value(data, i, depth)
		}
		if i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:seen.base]
	return i
}

func (d *Decoder) captureArray(data []byte, at, depth int, n *pathNode) int {
	index := 0
	i, more := d.firstElement(data, at)
	for more {
		if child := n.element(index); child != nil {
			i = d.capture(data, i, depth, child)
		} else {
			i = d.value(data, i, depth)
		}
		if i < 0 {
			return d.inIndex(index)
		}
		index++
		i, more = d.nextElement(data, i)
	}
	return i
}
