package decision

import "strings"

// A semver is a version split as the SDKs split it, which is not the way of
// semver.org. Its strings alias the text. Source: audiences.md section 6.
type semver struct {
	parts    [4]string // one to three numbers, then the tail if there is one
	n        int
	hasPre   bool // the tail follows a '-'
	hasBuild bool // the tail follows a '+'
}

// parseSemver splits a version; false means malformed. Source: audiences.md 6.1.
func parseSemver(v string) (s semver, ok bool) {
	if strings.IndexByte(v, ' ') >= 0 {
		return s, false
	}
	head, tail := v, ""
	if i := strings.IndexAny(v, "-+"); i >= 0 {
		head, tail = v[:i], v[i+1:]
		s.hasPre, s.hasBuild = v[i] == '-', v[i] == '+'
	}
	for {
		part, rest, more := strings.Cut(head, ".")
		if s.n == 3 || !isDigits(part) {
			return s, false
		}
		s.parts[s.n] = part
		s.n++
		if !more {
			break
		}
		head = rest
	}
	if s.hasPre || s.hasBuild {
		s.parts[s.n] = tail
		s.n++
	}
	return s, true
}

// compareSemver tells how the user's version u relates to the target t: below,
// equal within the target's precision, or above (-1, 0, +1).
// Source: audiences.md 6.2, AU-P3, AU-P4.
func compareSemver(t, u *semver) int {
	for i := 0; i < t.n; i++ {
		if i >= u.n {
			if t.hasPre || t.hasBuild {
				return 1
			}
			return -1
		}
		tp, up := t.parts[i], u.parts[i]
		switch {
		case !isDigits(up):
			switch c := strings.Compare(up, tp); {
			case c < 0 && t.hasPre && !u.hasPre:
				return 1
			case c < 0:
				return -1
			case c > 0 && !t.hasPre && u.hasPre:
				return -1
			case c > 0:
				return 1
			}
		case !isDigits(tp):
			return -1
		default:
			if c := compareDigits(up, tp); c != 0 {
				return c
			}
		}
	}
	if u.hasPre && !t.hasPre {
		return -1
	}
	return 0
}

// compareDigits compares two numbers of any size given as digits.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}
