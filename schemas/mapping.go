package schemas

import (
	"strconv"
	"strings"
)

// Mapping reads records of another shape as activities. It is made once by
// CompileMapping, never changes, and is safe for concurrent use by workers
// that each have their own Decoder.
type Mapping struct {
	paths *pathNode
	slots int
	build *buildNode
}

// span is where a source value stands in the record; an absent one has no
// bytes.
type span struct{ from, to int }

// pathNode is one step of the source paths, all of which form one tree, so
// that a record is walked once whatever is mapped.
type pathNode struct {
	children []pathChild
	slots    []int // filled with this node's value
}

type pathChild struct {
	key   string // of an object's member
	index int    // of an array's element, -1 when key is no index
	node  *pathNode
}

func (n *pathNode) child(key string) *pathNode {
	for i := range n.children {
		if n.children[i].key == key {
			return n.children[i].node
		}
	}
	return nil
}

func (n *pathNode) element(index int) *pathNode {
	for i := range n.children {
		if n.children[i].index == index {
			return n.children[i].node
		}
	}
	return nil
}

// origin is where a value comes from: a constant, or a slot of the source.
type origin struct {
	constant []byte
	slot     int
	rename   map[string][]byte // an object's keys, and the quoted keys to write for them
	unit     *int              // for numbers in timestamps: decimal places to shift to get ms; nil is strict
}

// conversion is what may be done to a value so that it fits its field.
type conversion uint8

const (
	asIs          conversion = iota
	numberToText             // a number becomes a string of its literal
	membersToText            // the same for each member of an object
	shiftToMillis            // a number is shifted by its origin's unit
)

// buildNode is one node of the activity to be written.
type buildNode struct {
	shape   buildShape
	convert conversion
	from    *origin // the value of a leaf, or what an object starts from
	parts   []buildPart
	needs   string // an object without this part is absent
	always  bool   // an object that is there even when empty
}

type buildShape uint8

const (
	leaf buildShape = iota
	object
	array
)

type buildPart struct {
	name   string // of an object's member
	quoted []byte
	index  int // of an array's element
	node   *buildNode
}

// Decode reads one record of the mapped shape, like Decoder.Decode with the
// same strictness, codes and lifetimes.
//
// The record may be any JSON value. A source that is missing or null leaves
// its field absent. A number is taken for user_id, id and identifiers as the
// text of its literal; nothing else changes its type. Fields of the record
// that nothing maps are checked like the others and not counted as unknown.
// A Reject for the record's text names a path in the record, one for a field's
// type or absence names the activity's field.
func (m *Mapping) Decode(data []byte, d *Decoder, a *Activity) error {
	d.Reset()
	return m.DecodeMore(data, d, a)
}

// DecodeMore is to Decode what Decoder.DecodeMore is to Decoder.Decode.
func (m *Mapping) DecodeMore(data []byte, d *Decoder, a *Activity) error {
	*a = Activity{}
	if err := d.capturePaths(data, m); err != nil {
		return err
	}
	mark := len(d.mapped)
	d.mapped, _ = d.appendNode(d.mapped, data, m.build)
	end := len(d.mapped)
	d.begin()
	if d.record(d.mapped[mark:end:end], a) < 0 {
		d.fault.offset = -1
		return d.reject()
	}
	return nil
}

// splitPath splits a dotted path; a backslash takes the next character as it
// is. It returns nil for a path with an empty step or an open escape.
func splitPath(path string) []string {
	var steps []string
	var step strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '\\':
			if i++; i == len(path) {
				return nil
			}
			step.WriteByte(path[i])
		case '.':
			if step.Len() == 0 {
				return nil
			}
			steps = append(steps, step.String())
			step.Reset()
		default:
			step.WriteByte(c)
		}
	}
	if step.Len() == 0 {
		return nil
	}
	return append(steps, step.String())
}

const maxMappedIndex = 999

// pathIndex reads a step as an array index, -1 when it is none.
func pathIndex(step string) int {
	n, err := strconv.Atoi(step)
	if err != nil || n < 0 || n > maxMappedIndex || strconv.Itoa(n) != step {
		return -1
	}
	return n
}

// addPath makes room for the value at a source path and returns its slot.
func (m *Mapping) addPath(steps []string) int {
	n := m.paths
	for _, step := range steps {
		next := n.child(step)
		if next == nil {
			next = &pathNode{}
			n.children = append(n.children, pathChild{step, pathIndex(step), next})
		}
		n = next
	}
	n.slots = append(n.slots, m.slots)
	m.slots++
	return m.slots - 1
}
