package schemas

// MaxDepth is how deep arrays and objects may be nested in a record, the
// record itself included. It bounds the stack that reading one takes.
const MaxDepth = 512

// value checks the value at data[i] and everything in it without keeping
// anything. depth counts the containers open around it.
func (d *Decoder) value(data []byte, i, depth int) int {
	switch c := data[i]; c {
	case '"':
		_, i = d.text(data, i)
		return i
	case '{':
		return d.object(data, i, depth+1)
	case '[':
		return d.array(data, i, depth+1)
	case 't':
		return d.word(data, i, "true")
	case 'f':
		return d.word(data, i, "false")
	case 'n':
		return d.word(data, i, "null")
	default:
		if c == '-' || c-'0' <= 9 {
			return d.number(data, i)
		}
	}
	return d.fail(RejectNotJSON, i, "expected a value")
}

func (d *Decoder) object(data []byte, at, depth int) int {
	if depth > MaxDepth {
		return d.fail(RejectTooDeep, at, "nested too deep")
	}
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
		if i = d.value(data, i, depth); i < 0 {
			return d.inKey(key)
		}
		i, more = d.nextMember(data, i)
	}
	d.keys = d.keys[:seen.base]
	return i
}

func (d *Decoder) array(data []byte, at, depth int) int {
	if depth > MaxDepth {
		return d.fail(RejectTooDeep, at, "nested too deep")
	}
	n := 0
	i, more := d.firstElement(data, at)
	for more {
		if i = d.value(data, i, depth); i < 0 {
			return d.inIndex(n)
		}
		n++
		i, more = d.nextElement(data, i)
	}
	return i
}

// keySet is the set of keys of one object being read: d.keys from base on, and
// from smallObject keys on also d.seen under the number id. It tells
// duplicates in constant time per key however large the object is.
type keySet struct {
	base int
	id   int
}

// smallObject is the size up to which comparing a key with all before it is
// cheaper than hashing it.
const smallObject = 16

type objectKey struct {
	object int
	key    string
}

// addKey adds key and reports whether it is new. When the object is complete
// its reader truncates d.keys to the set's base.
func (d *Decoder) addKey(s *keySet, key string) bool {
	keys := d.keys[s.base:]
	if len(keys) >= smallObject {
		return d.addKeyHashed(s, key)
	}
	for _, k := range keys {
		if k == key {
			return false
		}
	}
	d.keys = append(d.keys, key)
	return true
}

func (d *Decoder) addKeyHashed(s *keySet, key string) bool {
	if d.seen == nil {
		d.seen = make(map[objectKey]struct{})
	}
	if s.id == 0 {
		d.largeObjects++
		s.id = d.largeObjects
		for _, k := range d.keys[s.base:] {
			d.seen[objectKey{s.id, k}] = struct{}{}
		}
	}
	before := len(d.seen)
	d.seen[objectKey{s.id, key}] = struct{}{}
	return len(d.seen) > before
}
