package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"sortition/sinks"
)

// A Prediction says what the prediction service answers.
type Prediction struct {
	Rule        string          `json:"rule"`           // id
	User        string          `json:"user,omitempty"` // "": everybody
	VariationID json.RawMessage `json:"variation_id"`   // a string as a rule, but clients must get over anything
}

// SetPrediction says which variation of a rule everybody gets, or only one user if
// user isn't "".
func (e *Emulator) SetPrediction(rule, user, variationID string) error {
	id, err := json.Marshal(variationID)
	if err != nil {
		panic("BUG: a string that is not JSON: " + err.Error())
	}
	return e.state.setPredictions([]Prediction{{rule, user, id}})
}

func (s *state) setPredictions(list []Prediction) error {
	for _, p := range list {
		if p.Rule == "" || !json.Valid(p.VariationID) {
			return errors.New("set a prediction: it needs a rule and a variation_id")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		s.predictions[predictionKey{p.Rule, p.User}] = p.VariationID
	}
	return s.save()
}

func (s *state) clearPredictions() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.predictions)
	return s.save()
}

// prediction finds the answer: the user's, the rule's, or by the seed one of the
// rule's variations.
func (s *state) prediction(rule, user, attributes string) (json.RawMessage, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, key := range []predictionKey{{rule, user}, {rule, ""}} {
		if id, ok := s.predictions[key]; ok {
			return id, true
		}
	}
	for _, key := range s.keys {
		if ids := s.datafiles[key].bandits[rule]; len(ids) > 0 {
			id := ids[int(s.chance("prediction", rule, user, attributes)*float64(len(ids)))]
			text, err := json.Marshal(id)
			return text, err == nil
		}
	}
	return nil, false
}

// banditsOf returns the variation ids of the rules with a bandit.
// Source: cmab.md section 1.
func banditsOf(datafile []byte) map[string][]string {
	type experiment struct {
		ID         string `json:"id"`
		Variations []struct {
			ID string `json:"id"`
		} `json:"variations"`
		CMAB json.RawMessage `json:"cmab"`
	}
	var wire struct {
		Experiments []experiment `json:"experiments"`
		Groups      []struct {
			Experiments []experiment `json:"experiments"`
		} `json:"groups"`
	}
	if json.Unmarshal(datafile, &wire) != nil {
		return nil
	}
	all := wire.Experiments
	for _, g := range wire.Groups {
		all = append(all, g.Experiments...)
	}
	bandits := map[string][]string{}
	for _, x := range all {
		if len(x.CMAB) == 0 || bytes.Equal(x.CMAB, []byte("null")) {
			continue
		}
		for _, v := range x.Variations {
			bandits[x.ID] = append(bandits[x.ID], v.ID)
		}
	}
	return bandits
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// predict answers POST /predict/{rule}. Source: cmab.md sections 4 and 5.
func (e *Emulator) predict(c *call) reply {
	if r, ok := onlyPost(c); !ok {
		return r
	}
	rule := c.r.PathValue("rule")
	var wire struct {
		Instances []struct {
			VisitorID    *string `json:"visitorId"`
			ExperimentID string  `json:"experimentId"`
			Attributes   []struct {
				ID    string          `json:"id"`
				Value json.RawMessage `json:"value"`
				Type  string          `json:"type"`
			} `json:"attributes"`
			UUID string `json:"cmabUUID"`
		} `json:"instances"`
	}
	fail := func(path string, code sinks.Code, message string) {
		c.attempt.Problems = append(c.attempt.Problems, sinks.Problem{Path: path, Code: code, Severity: sinks.SeverityError, Message: message})
	}
	if json.Unmarshal(c.attempt.Body, &wire) != nil {
		fail("", sinks.CodeNotJSON, "must be a JSON object of the form of a prediction request")
		return problem(http.StatusBadRequest, c.attempt.Problems[0].Message)
	}
	if len(wire.Instances) != 1 {
		fail("instances", sinks.CodeWrongCount, "must have exactly one element")
		return problem(http.StatusBadRequest, c.attempt.Problems[0].Message)
	}
	in := &wire.Instances[0]
	if in.VisitorID == nil {
		fail("instances[0].visitorId", sinks.CodeMissing, "is required")
	}
	if in.ExperimentID != rule {
		fail("instances[0].experimentId", sinks.CodeWrongValue, "must be the rule of the path")
	}
	if in.Attributes == nil {
		fail("instances[0].attributes", sinks.CodeMissing, "is required; [] if there are none")
	}
	for _, a := range in.Attributes {
		if a.ID == "" || a.Type != "custom_attribute" || a.Value == nil {
			fail("instances[0].attributes", sinks.CodeWrongValue, "each needs id, value, and type custom_attribute")
			break
		}
	}
	if !uuidPattern.MatchString(in.UUID) {
		fail("instances[0].cmabUUID", sinks.CodeWrongValue, "must be a version 4 UUID in lower case")
	}
	if len(c.attempt.Problems) > 0 {
		return problem(http.StatusBadRequest, c.attempt.Problems[0].Path+": "+c.attempt.Problems[0].Message)
	}
	attributes, err := json.Marshal(in.Attributes)
	if err != nil {
		panic("BUG: attributes that are not JSON: " + err.Error())
	}
	id, ok := e.state.prediction(rule, *in.VisitorID, string(attributes))
	if !ok {
		return problem(http.StatusNotFound, "no rule of this id with a bandit")
	}
	return jsonReply(http.StatusOK, map[string]any{"predictions": []any{map[string]json.RawMessage{"variation_id": id}}})
}
