package decision

import "encoding/json"

// tree.go flattens audience trees into programs.

// leafInfo is a condition as the datafile has it; Explain shows it.
type leafInfo struct {
	name, match string
	value       any
}

// A leafEmitter appends the node of one leaf, or reports that v is none.
type leafEmitter func(at *place, v any) bool

// emit appends the program of tree and returns its root. Pieces no SDK defines
// become "unknown" with a warning. Source: audiences.md AU-7, AU-8, AU-9, AU-P1.
func (c *compiler) emit(at *place, tree any, leaf leafEmitter) uint32 {
	root := uint32(len(c.p.nodes))
	list, ok := tree.([]any)
	if !ok {
		if !leaf(at, tree) {
			c.warn(at, "%s is not a condition here; it is never met and never failed", typeName(tree))
			c.constant(isUnknown)
		}
		return root
	}
	if len(list) == 0 {
		c.warn(at, "an empty array is not a condition; it is never met and never failed")
		return c.constant(isUnknown)
	}
	op, first := opOr, 0
	switch list[0] {
	case "and":
		op, first = opAnd, 1
	case "or":
		first = 1
	case "not":
		op, first = opNot, 1
	}
	switch operands := list[first:]; {
	case len(operands) == 0:
		return c.constant([...]truth{opAnd: isTrue, opOr: isFalse, opNot: isUnknown}[op])
	case op == opNot:
		operands = operands[:1] // AU-12: the rest is ignored
		c.operator(op, at, first, operands, leaf)
	case len(operands) == 1: // and, or of one operand are that operand
		c.emit(at.elem(first), operands[0], leaf)
	default:
		c.operator(op, at, first, operands, leaf)
	}
	return root
}

func (c *compiler) operator(op opcode, at *place, first int, operands []any, leaf leafEmitter) {
	root := len(c.p.nodes)
	c.p.nodes = append(c.p.nodes, node{op: op, info: none})
	for i, v := range operands {
		c.emit(at.elem(first+i), v, leaf)
	}
	c.p.nodes[root].end = uint32(len(c.p.nodes))
}

func (c *compiler) constant(t truth) uint32 {
	return c.leaf(node{op: opConst, arg: uint32(t), info: none})
}

func (c *compiler) leaf(n node) uint32 {
	pc := uint32(len(c.p.nodes))
	n.end = pc + 1
	c.p.nodes = append(c.p.nodes, n)
	return pc
}

// audienceLeaf appends a reference to an audience. Source: audiences.md AU-5.
func (c *compiler) audienceLeaf(at *place, v any) bool {
	id, ok := v.(string)
	if !ok {
		return false
	}
	if i, ok := c.audienceByID[id]; ok {
		c.leaf(node{op: opAudience, arg: i, info: none})
		return true
	}
	c.warn(at, "names no audience: nobody is in it")
	c.p.leaves = append(c.p.leaves, leafInfo{name: id, match: "unknown audience"})
	c.leaf(node{op: opConst, arg: uint32(isUnknown), info: uint32(len(c.p.leaves) - 1)})
	return true
}

var numberOps = map[string]opcode{"gt": opGT, "ge": opGE, "lt": opLT, "le": opLE}

var semverOps = map[string]opcode{
	"semver_eq": opSemverEQ, "semver_gt": opSemverGT, "semver_ge": opSemverGE, "semver_lt": opSemverLT, "semver_le": opSemverLE,
}

// conditionLeaf appends one condition object; whatever can't be judged is
// unknown. Source: audiences.md AU-13 to AU-20, AU-P2.
func (c *compiler) conditionLeaf(at *place, v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	name, hasName := m["name"].(string)
	match, isText := m["match"].(string)
	if m["match"] == nil {
		match, isText = "exact", true
	}
	value := m["value"]
	n := node{op: opConst, arg: uint32(isUnknown), info: uint32(len(c.p.leaves))}
	c.p.leaves = append(c.p.leaves, leafInfo{name, match, value})
	if kind, _ := m["type"].(string); !isText || (kind != "custom_attribute" && kind != "third_party_dimension") {
		c.warn(at, "has a type or match that is not known: it is never met and never failed")
		c.leaf(n)
		return true
	}
	text, isString := value.(string)
	switch match {
	case "exists":
		n.op = opExists
	case "exact":
		switch v := value.(type) {
		case string:
			n.op, n.text = opExactString, v
		case bool:
			n.op, n.boolean = opExactBool, v
		case json.Number:
			if num := Number(v.String()); num.inRange {
				n.op, n.number = opExactNumber, num.num
			}
		}
	case "substring":
		if isString {
			n.op, n.text = opSubstring, text
		}
	case "qualified":
		if isString {
			n.op, n.arg = opQualified, c.segment(text)
		}
	default:
		if op, ok := numberOps[match]; ok {
			if v, ok := value.(json.Number); ok {
				if num := Number(v.String()); num.inRange {
					n.op, n.number = op, num.num
				}
			}
		} else if op, ok := semverOps[match]; ok {
			if v, ok := parseSemver(text); isString && ok {
				n.op, n.version = op, uint32(len(c.p.versions))
				c.p.versions = append(c.p.versions, v)
			}
		} else {
			c.warn(at, "has a match that is not known: it is never met and never failed")
		}
	}
	switch n.op {
	case opConst, opQualified:
	default:
		if !hasName { // finds nothing: AU-15
			n.arg = c.nowhere()
		} else {
			n.arg = c.slot(name)
		}
	}
	c.leaf(n)
	return true
}

// slot interns an attribute key.
func (c *compiler) slot(key string) uint32 {
	i, ok := c.slotByKey[key]
	if !ok {
		i = uint32(len(c.p.slots))
		c.p.slots = append(c.p.slots, slot{key: key})
		c.slotByKey[key] = i
	}
	return i
}

// nowhere is a slot that no attribute ever fills.
func (c *compiler) nowhere() uint32 {
	if c.emptySlot == none {
		c.emptySlot = uint32(len(c.p.slots))
		c.p.slots = append(c.p.slots, slot{})
	}
	return c.emptySlot
}

// segment interns a segment name.
func (c *compiler) segment(name string) uint32 {
	i, ok := c.segmentByName[name]
	if !ok {
		i = uint32(len(c.segmentByName))
		c.segmentByName[name] = i
	}
	return i
}
