package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sortition/sinks"
)

// Segments are what ODP knows of a user.
type Segments struct {
	Segments []string `json:"segments"`
	Unknown  bool     `json:"unknown,omitempty"` // ODP doesn't know the user at all
}

// A SegmentRule is for users who are in no table.
type SegmentRule struct {
	Fraction float64 `json:"fraction"` // of the users are in a segment, which ones depends on the seed
	Unknown  bool    `json:"unknown"`  // ODP doesn't know them at all
}

// SetSegments says which segments a user is in; with none, in none.
func (e *Emulator) SetSegments(user string, segments ...string) error {
	return e.state.setUsers(map[string]Segments{user: {Segments: segments}})
}

// SetUsers says of many users at once what ODP knows of them.
func (e *Emulator) SetUsers(users map[string]Segments) error { return e.state.setUsers(users) }

// SetUnknown makes a user one that ODP doesn't know.
func (e *Emulator) SetUnknown(user string) error {
	return e.state.setUsers(map[string]Segments{user: {Unknown: true}})
}

// SetSegmentRule says what holds for all users who weren't set.
func (e *Emulator) SetSegmentRule(rule SegmentRule) error { return e.state.setRule(rule) }

func (s *state) setUsers(users map[string]Segments) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, segments := range users {
		s.users[user] = segments
	}
	return s.save()
}

func (s *state) setRule(rule SegmentRule) error {
	if !(rule.Fraction >= 0 && rule.Fraction <= 1) { // false for NaN
		return fmt.Errorf("set the rule of segments: the fraction must be from 0 to 1")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule, s.isRuleSet = rule, true
	return s.save()
}

func (s *state) clearUsers() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.users)
	return s.save()
}

// segmentsOf tells of each segment asked for whether a user is in it, and whether
// ODP knows the user at all.
func (s *state) segmentsOf(user string, asked []string) (qualified []bool, isKnown bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	set, isSet := s.users[user]
	if isSet && set.Unknown || !isSet && s.rule.Unknown {
		return nil, false
	}
	qualified = make([]bool, len(asked))
	for i, name := range asked {
		if isSet {
			qualified[i] = slices.Contains(set.Segments, name)
		} else {
			qualified[i] = s.chance("segment", user, name) < s.rule.Fraction
		}
	}
	return qualified, true
}

// checkODP refuses what has another key than ODP's.
func (e *Emulator) checkODP(c *call) (reply, bool) {
	if r, ok := onlyPost(c); !ok {
		return r, false
	}
	key := c.r.Header.Get("X-Api-Key")
	if e.opts.ODPKey != "" && key != e.opts.ODPKey || e.opts.ODPKey == "" && !e.state.acceptsODPKey(key) {
		return problem(http.StatusForbidden, "not the public key of the integration"), false
	}
	return reply{}, true
}

// segments answers POST /v3/graphql. Source: odp.md section 4.
func (e *Emulator) segments(c *call) reply {
	if r, ok := e.checkODP(c); !ok {
		return r
	}
	q, err := parseQuery(c.attempt.Body)
	if err != nil {
		c.attempt.Problems = []sinks.Problem{{Code: "wrong_query", Severity: sinks.SeverityError, Message: err.Error()}}
		return graphQLError("InvalidSyntax", "", err.Error())
	}
	qualified, isKnown := e.state.segmentsOf(q.user, q.audiences)
	if !isKnown {
		return graphQLError("DataFetchingException", "INVALID_IDENTIFIER_EXCEPTION", "could not resolve "+q.userKey)
	}
	type node struct {
		Name  string `json:"name"`
		State string `json:"state"`
	}
	edges := make([]map[string]node, len(q.audiences))
	for i, name := range q.audiences {
		state := "not_qualified"
		if qualified[i] {
			state = "qualified"
		}
		edges[i] = map[string]node{"node": {name, state}}
	}
	return jsonReply(http.StatusOK, map[string]any{"data": map[string]any{"customer": map[string]any{"audiences": map[string]any{"edges": edges}}}})
}

func graphQLError(classification, code, message string) reply {
	extensions := map[string]string{"classification": classification}
	if code != "" {
		extensions["code"] = code
	}
	return jsonReply(http.StatusOK, map[string]any{
		"errors": []any{map[string]any{"message": message, "path": []string{"customer"}, "extensions": extensions}},
		"data":   map[string]any{"customer": nil},
	})
}

// odpEvents answers POST /v3/events: 202, or 400 for what ODP can't use.
// Source: odp.md section 5.1 and 8.
func (e *Emulator) odpEvents(c *call) reply {
	if r, ok := e.checkODP(c); !ok {
		return r
	}
	c.attempt.Problems = odpProblems(c.attempt.Body)
	if len(c.attempt.Problems) > 0 {
		return problem(http.StatusBadRequest, c.attempt.Problems[0].Path+": "+c.attempt.Problems[0].Message)
	}
	return jsonReply(http.StatusAccepted, map[string]any{"title": "Accepted", "status": http.StatusAccepted, "timestamp": e.now().UTC().Format(time.RFC3339Nano)})
}

// maxODPEvents is the most that a body holds. Source: odp.md section 5.1.
const maxODPEvents = 10

func odpProblems(body []byte) (problems []sinks.Problem) {
	fail := func(path string, code sinks.Code, message string) {
		problems = append(problems, sinks.Problem{Path: path, Code: code, Severity: sinks.SeverityError, Message: message})
	}
	var events []map[string]json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		fail("", sinks.CodeNotJSON, "must be a JSON array of objects")
		return problems
	}
	if len(events) == 0 || len(events) > maxODPEvents {
		fail("", sinks.CodeWrongCount, "must have 1 to 10 events")
		return problems
	}
	for i, event := range events {
		path := "[" + strconv.Itoa(i) + "]"
		for _, name := range []string{"type", "action"} {
			var text string
			if json.Unmarshal(event[name], &text) != nil || text == "" {
				fail(path+"."+name, sinks.CodeWrongType, "must be a text that is not empty")
			}
		}
		var identifiers map[string]json.RawMessage
		if json.Unmarshal(event["identifiers"], &identifiers) != nil || len(identifiers) == 0 {
			fail(path+".identifiers", sinks.CodeWrongType, "must be an object with at least one field")
		}
		var data map[string]json.RawMessage
		if json.Unmarshal(event["data"], &data) != nil || data == nil {
			fail(path+".data", sinks.CodeWrongType, "must be an object")
			continue
		}
		for _, name := range []string{"idempotence_id", "data_source_type", "data_source", "data_source_version"} {
			if _, ok := data[name]; !ok {
				fail(path+".data."+name, sinks.CodeMissing, "is required")
			}
		}
		for _, value := range data {
			if len(value) > 0 && (value[0] == '{' || value[0] == '[') {
				// Without the field's name, which may tell of a person.
				fail(path+".data", sinks.CodeWrongType, "must hold only texts, numbers, booleans and null")
				break
			}
		}
	}
	return problems
}
