package emulator

import (
	"encoding/json"
	"errors"
	"strings"
)

// A segmentQuery is what a client asks of ODP.
type segmentQuery struct {
	userKey   string // fs_user_id or vuid
	user      string
	audiences []string
}

// parseQuery reads the one query that clients send. Values are variables, as they
// should be, or stand in the text, as the JavaScript SDK writes them. It isn't a
// GraphQL parser: it looks for the arguments where they must be.
// Source: odp.md OD-17, OD-18.
func parseQuery(body []byte) (q segmentQuery, err error) {
	var wire struct {
		Query     string                     `json:"query"`
		Variables map[string]json.RawMessage `json:"variables"`
	}
	if json.Unmarshal(body, &wire) != nil {
		return q, errors.New("must be a JSON object with query and variables")
	}
	_, selection, ok := strings.Cut(wire.Query, "customer")
	if !ok {
		return q, errors.New("the query must select customer")
	}
	name, value, rest, ok := argument(selection)
	if !ok || name != "fs_user_id" && name != "vuid" {
		return q, errors.New("customer must be asked for by fs_user_id or vuid")
	}
	q.userKey = name
	if value, ok = resolve(value, wire.Variables); !ok || json.Unmarshal([]byte(value), &q.user) != nil {
		return q, errors.New("the user must be a string")
	}
	_, selection, ok = strings.Cut(rest, "audiences")
	if !ok {
		return q, errors.New("the query must select audiences")
	}
	name, value, rest, ok = argument(selection)
	if !ok || name != "subset" {
		return q, errors.New("audiences must have the argument subset")
	}
	if value, ok = resolve(value, wire.Variables); !ok || json.Unmarshal([]byte(value), &q.audiences) != nil {
		return q, errors.New("the subset of audiences must be a list of strings")
	}
	for _, field := range []string{"edges", "node", "name", "state"} {
		if !strings.Contains(rest, field) {
			return q, errors.New("the query must select edges, node, name and state")
		}
	}
	return q, nil
}

// argument reads "(name: value)" with white space anywhere; value is a variable or
// a literal that is JSON too.
func argument(s string) (name, value, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimSpace(s), "(")
	if !ok {
		return "", "", "", false
	}
	name, s, ok = strings.Cut(s, ":")
	if !ok {
		return "", "", "", false
	}
	name, s = strings.TrimSpace(name), strings.TrimSpace(s)
	if strings.HasPrefix(s, "$") {
		value, rest, ok = strings.Cut(s, ")")
		return name, strings.TrimSpace(value), rest, ok
	}
	dec := json.NewDecoder(strings.NewReader(s))
	var literal json.RawMessage
	if dec.Decode(&literal) != nil {
		return "", "", "", false
	}
	_, rest, ok = strings.Cut(s[dec.InputOffset():], ")")
	return name, string(literal), rest, ok
}

// resolve replaces a variable by its value.
func resolve(value string, variables map[string]json.RawMessage) (string, bool) {
	name, isVariable := strings.CutPrefix(value, "$")
	if !isVariable {
		return value, true
	}
	raw, ok := variables[name]
	return string(raw), ok
}
