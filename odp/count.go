package odp

import "encoding/json"

// CountEvents counts the events of a batch body; false if it isn't one: a JSON array
// of 1 to 10 objects. Source: odp.md section 5.1.
func CountEvents(body []byte) (int, bool) {
	var events []map[string]json.RawMessage
	if json.Unmarshal(body, &events) != nil || len(events) < 1 || len(events) > maxBatch {
		return 0, false
	}
	for _, e := range events {
		if e == nil {
			return 0, false
		}
	}
	return len(events), true
}
