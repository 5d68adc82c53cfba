package decision

import (
	"bytes"
	"encoding/json"
)

// scan.go moves over JSON text that is known to be valid, without decoding it.

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index behind the string that starts at i.
func skipString(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the index behind the value that starts at i.
func skipValue(text []byte, i int) int {
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
		depth := 0
		for {
			switch text[i] {
			case '"':
				i = skipString(text, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
	default:
		for i < len(text) && !bytes.ContainsRune([]byte(" \t\n\r,]}"), rune(text[i])) {
			i++
		}
		return i
	}
}

// eachMember calls f for the members of a valid JSON object, names as written.
func eachMember(object []byte, f func(quoted, value []byte)) {
	i := skipSpace(object, skipSpace(object, 0)+1)
	for object[i] != '}' {
		end := skipString(object, i)
		quoted := object[i:end]
		i = skipSpace(object, skipSpace(object, end)+1) // over the colon
		end = skipValue(object, i)
		f(quoted, object[i:end])
		i = skipSpace(object, end)
		if object[i] == ',' {
			i = skipSpace(object, i+1)
		}
	}
}

func memberName(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic("BUG: member name of valid JSON: " + err.Error())
	}
	return s
}

// stripNulls removes the members revenue, value, tags and decisions whose value
// is null, at any depth. The text is returned as it is when there is nothing to
// remove. Source: events.md EV-4.
func stripNulls(value []byte) []byte {
	if !bytes.Contains(value, []byte("null")) {
		return value
	}
	return appendStripped(make([]byte, 0, len(value)), value)
}

func appendStripped(dst, value []byte) []byte {
	i := skipSpace(value, 0)
	switch value[i] {
	case '{':
		dst = append(dst, '{')
		isFirst := true
		eachMember(value, func(quoted, v []byte) {
			switch memberName(quoted) {
			case "revenue", "value", "tags", "decisions":
				if string(v) == "null" {
					return
				}
			}
			if !isFirst {
				dst = append(dst, ',')
			}
			isFirst = false
			dst = append(append(dst, quoted...), ':')
			dst = appendStripped(dst, v)
		})
		return append(dst, '}')
	case '[':
		dst = append(dst, '[')
		for i = skipSpace(value, i+1); value[i] != ']'; {
			end := skipValue(value, i)
			dst = appendStripped(dst, value[i:end])
			i = skipSpace(value, end)
			if value[i] == ',' {
				dst = append(dst, ',')
				i = skipSpace(value, i+1)
			}
		}
		return append(dst, ']')
	default:
		return append(dst, bytes.TrimSpace(value)...)
	}
}
