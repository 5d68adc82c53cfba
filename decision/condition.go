package decision

import "strings"

// A truth is a value of three-valued logic. The order makes "and" a minimum and
// "or" a maximum. Source: audiences.md section 3.1.
type truth uint8

const (
	isFalse truth = iota
	isUnknown
	isTrue
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// String is "false", "unknown" or "true".
func (t truth) String() string { return [...]string{"false", "unknown", "true"}[t] }

// An opcode is what a node of a condition program does.
type opcode uint8

const (
	opAnd       opcode = iota // all operands
	opOr                      // any operand
	opNot                     // its one operand
	opAudience                // the audience arg
	opConst                   // the truth in arg; leaves from here on
	opExists                  // slot arg has a value that isn't null
	opQualified               // segment arg is among the user's
	opExactString
	opExactBool
	opExactNumber
	opGT
	opGE
	opLT
	opLE
	opSubstring
	opSemverEQ
	opSemverGT
	opSemverGE
	opSemverLT
	opSemverLE
)

// A node is one step of a program: an operator followed by its operands, or a
// leaf. end is the index behind the node's subtree, so that operands are found
// by skipping.
type node struct {
	op      opcode
	boolean bool   // constant of opExactBool
	end     uint32 // index behind the subtree
	arg     uint32 // slot, segment, audience, or constant truth
	version uint32 // constant of the semver opcodes: index into Project.versions
	info    uint32 // index into Project.leaves; none for operators
	number  float64
	text    string
}

// eval runs the program at pc for u. Operators stop at the operand that decides:
// false for and, true for or. Source: audiences.md AU-11, AU-12.
func (p *Project) eval(pc uint32, u *User) truth {
	n := &p.nodes[pc]
	switch n.op {
	case opAnd:
		result := isTrue
		for i := pc + 1; i < n.end; {
			t, next := p.operand(i, u)
			i = next
			if t < result {
				if t == isFalse {
					return isFalse
				}
				result = t
			}
		}
		return result
	case opOr:
		result := isFalse
		for i := pc + 1; i < n.end; {
			t, next := p.operand(i, u)
			i = next
			if t > result {
				if t == isTrue {
					return isTrue
				}
				result = t
			}
		}
		return result
	case opNot:
		t, _ := p.operand(pc+1, u)
		return isTrue - t
	case opAudience: // evaluated once per user, then remembered
		m := &u.memo[n.arg]
		if m.epoch == u.memoEpoch {
			return m.result
		}
		t := p.eval(p.audiences[n.arg].root, u)
		*m, u.hasMemo = memo{u.memoEpoch, t}, true
		return t
	default:
		return p.evalLeaf(n, u)
	}
}

// operand evaluates the operand at pc and returns where the next one starts.
// Most are leaves, which it spares the recursion.
func (p *Project) operand(pc uint32, u *User) (truth, uint32) {
	n := &p.nodes[pc]
	if n.op > opAudience {
		return p.evalLeaf(n, u), pc + 1
	}
	return p.eval(pc, u), n.end
}

// evalLeaf evaluates one condition. Source: audiences.md sections 4 and 5.
func (p *Project) evalLeaf(n *node, u *User) truth {
	if n.op == opConst {
		return truth(n.arg)
	}
	if n.op == opQualified {
		return truthOf(u.segmentEpochs[n.arg] == u.epoch)
	}
	a := &u.values[n.arg]
	isPresent := a.epoch == u.epoch && a.kind != KindNull
	if n.op == opExists {
		return truthOf(isPresent)
	}
	if !isPresent {
		return isUnknown
	}
	switch n.op {
	case opExactString:
		if a.kind == KindString {
			return truthOf(a.text == n.text)
		}
	case opExactBool:
		if a.kind == KindBool {
			return truthOf(a.isTrue == n.boolean)
		}
	case opSubstring:
		if a.kind == KindString {
			return truthOf(strings.Contains(a.text, n.text))
		}
	case opExactNumber, opGT, opGE, opLT, opLE:
		if a.kind == KindNumber && a.inRange {
			return truthOf(compareNumber(n.op, a.num, n.number))
		}
	case opSemverEQ, opSemverGT, opSemverGE, opSemverLT, opSemverLE:
		if a.kind == KindString {
			if v, ok := parseSemver(a.text); ok {
				return truthOf(isVersion(n.op, compareSemver(&p.versions[n.version], &v)))
			}
		}
	default:
		panic("BUG: operator evaluated as a leaf")
	}
	return isUnknown
}

func compareNumber(op opcode, a, c float64) bool {
	switch op {
	case opGT:
		return a > c
	case opGE:
		return a >= c
	case opLT:
		return a < c
	case opLE:
		return a <= c
	default:
		return a == c
	}
}

func isVersion(op opcode, c int) bool {
	switch op {
	case opSemverGT:
		return c > 0
	case opSemverGE:
		return c >= 0
	case opSemverLT:
		return c < 0
	case opSemverLE:
		return c <= 0
	default:
		return c == 0
	}
}
