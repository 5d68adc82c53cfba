package schemas

// A mapped record is written as an activity and then decoded like one, so that
// types are judged in one place. The calls below write it.

// sourceOf returns the bytes of an origin's value, nil when it is absent.
func (d *Decoder) sourceOf(data []byte, o *origin) []byte {
	switch {
	case o == nil:
		return nil
	case o.constant != nil:
		return o.constant
	}
	s := d.spans[o.slot]
	if s.from == s.to {
		return nil
	}
	return data[s.from:s.to]
}

// appendNode appends the JSON of n's value and reports whether it has one;
// without one dst comes back as it was.
func (d *Decoder) appendNode(dst, data []byte, n *buildNode) ([]byte, bool) {
	raw := d.sourceOf(data, n.from)
	switch {
	case len(n.parts) == 0 && !n.always:
		if raw == nil {
			return dst, false
		}
		return d.appendConverted(dst, raw, n), true
	case n.shape == array:
		return d.appendElements(dst, data, n)
	case raw != nil && raw[0] != '{':
		return append(dst, raw...), true // of the wrong type, as decoding will say
	}
	return d.appendParts(dst, data, raw, n)
}

func (d *Decoder) appendElements(dst, data []byte, n *buildNode) ([]byte, bool) {
	mark := len(dst)
	dst = append(dst, '[')
	for i := range n.parts {
		before := len(dst)
		if before > mark+1 {
			dst = append(dst, ',')
		}
		var present bool
		if dst, present = d.appendNode(dst, data, n.parts[i].node); !present {
			dst = dst[:before]
		}
	}
	if len(dst) == mark+1 {
		return dst[:mark], false
	}
	return append(dst, ']'), true
}

// appendParts appends the object made of n's parts and of raw, when there is
// one, whose members give way to parts of the same name.
func (d *Decoder) appendParts(dst, data, raw []byte, n *buildNode) ([]byte, bool) {
	mark := len(dst)
	dst = append(dst, '{')
	hasNeed := n.needs == ""
	for i := range n.parts {
		part := &n.parts[i]
		before := len(dst)
		if before > mark+1 {
			dst = append(dst, ',')
		}
		dst = append(dst, part.quoted...)
		dst = append(dst, ':')
		var present bool
		if dst, present = d.appendNode(dst, data, part.node); !present {
			dst = dst[:before]
		} else if part.name == n.needs {
			hasNeed = true
		}
	}
	if raw != nil {
		dst = d.appendMembers(dst, mark+1, data, raw, n)
	} else if !n.always && (!hasNeed || len(dst) == mark+1) {
		return dst[:mark], false
	}
	return append(dst, '}'), true
}

// appendConverted appends a value that comes from one place.
func (d *Decoder) appendConverted(dst, raw []byte, n *buildNode) []byte {
	isNumber := raw[0] == '-' || raw[0]-'0' <= 9
	switch {
	case n.convert == numberToText && isNumber:
		dst = append(dst, '"')
		dst = append(dst, raw...)
		return append(dst, '"')
	case n.convert == shiftToMillis && isNumber && n.from.unit != nil:
		return appendShifted(dst, raw, *n.from.unit)
	case raw[0] == '{' && (n.convert == membersToText || n.from.rename != nil):
		dst = append(dst, '{')
		dst = d.appendMembers(dst, len(dst), nil, raw, n)
		return append(dst, '}')
	}
	return append(dst, raw...)
}

// appendMembers appends the members of the object raw, renamed, converted, and
// without those that n's parts replace. What is in dst from start on are
// members already. raw is valid JSON without duplicate keys.
func (d *Decoder) appendMembers(dst []byte, start int, data, raw []byte, n *buildNode) []byte {
	i, more := d.firstMember(raw, 0)
	for more {
		keyAt := i
		key, valueAt := d.key(raw, i)
		if valueAt < 0 {
			panic("BUG: schemas: mapping a record that was not checked")
		}
		i = d.value(raw, valueAt, 0)
		if !d.isReplaced(data, n, key) {
			if len(dst) > start {
				dst = append(dst, ',')
			}
			if name, ok := n.from.rename[key]; ok {
				dst = append(dst, name...)
				dst = append(dst, ':')
			} else {
				dst = append(dst, raw[keyAt:valueAt]...) // the colon included
			}
			value := raw[valueAt:i]
			if n.convert == membersToText && (value[0] == '-' || value[0]-'0' <= 9) {
				dst = append(dst, '"')
				dst = append(dst, value...)
				dst = append(dst, '"')
			} else {
				dst = append(dst, value...)
			}
		}
		i, more = d.nextMember(raw, i)
	}
	return dst
}

func (d *Decoder) isReplaced(data []byte, n *buildNode, key string) bool {
	name, isRenamed := n.from.rename[key]
	for i := range n.parts {
		part := &n.parts[i]
		if (isRenamed && string(part.quoted) == string(name) || !isRenamed && part.name == key) &&
			d.sourceOf(data, part.node.from) != nil {
			return true
		}
	}
	return false
}

// appendShifted appends a number literal as an integer, its decimal point
// moved places to the right; what is left behind the point is cut off. A
// literal with an exponent is left as it is, for decoding to refuse.
func appendShifted(dst, literal []byte, places int) []byte {
	whole := digits(literal, sign(literal))
	fraction := literal[whole:]
	if len(fraction) > 0 {
		if fraction[0] != '.' || digits(literal, whole+1) < len(literal) {
			return append(dst, literal...)
		}
		fraction = fraction[1:]
	}
	mark := len(dst)
	dst = append(dst, literal[:whole]...)
	for ; places > 0; places-- {
		if len(fraction) == 0 {
			dst = append(dst, '0')
			continue
		}
		dst = append(dst, fraction[0])
		fraction = fraction[1:]
	}
	dst = dst[:max(len(dst)+places, mark+sign(literal))]
	// Leading zeros are no JSON: 0.5 s is 0500 ms by now, 5 us nothing at all.
	first := mark + sign(literal)
	zeros := 0
	for first+zeros < len(dst) && dst[first+zeros] == '0' {
		zeros++
	}
	dst = append(dst[:first], dst[first+zeros:]...)
	if len(dst) == first {
		return append(dst[:mark], '0')
	}
	return dst
}

// sign is the length of the literal's sign.
func sign(literal []byte) int {
	if literal[0] == '-' {
		return 1
	}
	return 0
}
