package odp

import (
	"encoding/json"
)

// object is a JSON object whose members are looked up by their exact names.
type object map[string]json.RawMessage

// parseAnswer reads the answer to a query. The presence of "errors" wins over
// whatever else there is, and only the first of them counts.
// Source: odp.md OD-19 and the outcome table of section 4.
func parseAnswer(body []byte) ([]string, error) {
	if segments, ok := parsePlain(body); ok {
		return segments, nil
	}
	return parseAny(body)
}

func parseAny(body []byte) ([]string, error) {
	if !json.Valid(body) {
		return nil, &Error{Class: JSONError}
	}
	top, ok := objectOf(body)
	if !ok {
		return nil, decodeError("the answer is no object")
	}
	if errs, ok := top["errors"]; ok {
		return nil, parseErrors(errs)
	}
	place := top
	for _, name := range []string{"data", "customer", "audiences"} {
		if place, ok = objectOf(place[name]); !ok {
			return nil, decodeError("no " + name)
		}
	}
	var edges []json.RawMessage
	if json.Unmarshal(place["edges"], &edges) != nil || edges == nil {
		return nil, decodeError("no edges")
	}
	segments := make([]string, 0, len(edges))
	for _, raw := range edges {
		edge, _ := objectOf(raw)
		node, ok := objectOf(edge["node"])
		if !ok {
			return nil, decodeError("an edge without a node")
		}
		state, ok := node["state"]
		if !ok {
			return nil, decodeError("an edge without a state")
		}
		if text, ok := textOf(state); !ok || text != "qualified" {
			continue
		}
		name, ok := textOf(node["name"])
		if !ok {
			return nil, decodeError("a qualified edge without a name")
		}
		segments = append(segments, name)
	}
	return segments, nil
}

// parseErrors reads the member "errors". Source: odp.md section 4.
func parseErrors(raw json.RawMessage) error {
	var errs []json.RawMessage
	if json.Unmarshal(raw, &errs) != nil || len(errs) == 0 {
		return decodeError("no first error")
	}
	first, _ := objectOf(errs[0])
	extensions, _ := objectOf(first["extensions"])
	classification, ok := textOf(extensions["classification"])
	if !ok {
		return decodeError("an error without a classification")
	}
	if code, _ := textOf(extensions["code"]); code == "INVALID_IDENTIFIER_EXCEPTION" {
		return &Error{Class: InvalidIdentifier}
	}
	const most = 100 // of a text that somebody else wrote
	if len(classification) > most {
		classification = classification[:most]
	}
	return &Error{Class: ServerError, Classification: classification}
}

func decodeError(detail string) error { return &Error{Class: DecodeError, Detail: detail} }

func objectOf(raw json.RawMessage) (object, bool) {
	var o object
	if len(raw) == 0 || json.Unmarshal(raw, &o) != nil || o == nil {
		return nil, false
	}
	return o, true
}

func textOf(raw json.RawMessage) (string, bool) {
	var text *string
	if len(raw) == 0 || json.Unmarshal(raw, &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}
