package odp

import "bytes"

// parsePlain reads the answer that ODP nearly always gives: the members a query asks for
// and no others, in text without escapes. Of every other answer it says that it is not
// plain, and parseAnswer finds out what it is.
func parsePlain(body []byte) (segments []string, ok bool) {
	p := plain{rest: body}
	segments = make([]string, 0, 8)
	p.take(`{`, `"data"`, `:`, `{`, `"customer"`, `:`, `{`, `"audiences"`, `:`, `{`, `"edges"`, `:`, `[`)
	if !p.has(']') {
		for {
			if name, isQualified := p.edge(); isQualified {
				segments = append(segments, string(name))
			}
			if !p.has(',') {
				break
			}
		}
		p.take(`]`)
	}
	p.take(`}`, `}`, `}`, `}`)
	p.space()
	return segments, !p.isOff && len(p.rest) == 0
}

// plain reads on in an answer for as long as it is plain. Once it is off it stays there,
// and nothing that was read counts.
type plain struct {
	rest  []byte
	isOff bool
}

func (p *plain) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\r' || p.rest[0] == '\t') {
		p.rest = p.rest[1:]
	}
}

// take takes some tokens.
func (p *plain) take(tokens ...string) {
	for _, token := range tokens {
		p.space()
		rest, ok := bytes.CutPrefix(p.rest, []byte(token))
		p.rest = rest
		p.isOff = p.isOff || !ok
	}
}

// has takes a character if it comes next.
func (p *plain) has(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c || p.isOff {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// text takes a string of printable ASCII without escapes.
func (p *plain) text() []byte {
	p.take(`"`)
	for i, c := range p.rest {
		switch {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text
		case c < ' ' || c > '~' || c == '\\':
			p.isOff = true
			return nil
		}
	}
	p.isOff = true
	return nil
}

// edge takes an edge with its node, of name and state in either order.
func (p *plain) edge() (name []byte, isQualified bool) {
	p.take(`{`, `"node"`, `:`, `{`)
	var state []byte
	first := p.text()
	p.take(`:`)
	switch value := p.text(); string(first) {
	case "name":
		p.take(`,`, `"state"`, `:`)
		name, state = value, p.text()
	case "state":
		p.take(`,`, `"name"`, `:`)
		name, state = p.text(), value
	default:
		p.isOff = true
	}
	p.take(`}`, `}`)
	return name, !p.isOff && string(state) == "qualified"
}
