package odp

import (
	"bytes"
	"encoding/json"
	"strings"

	"sortition/schemas"
)

// AppendActivityEvent appends one ODP event of an activity, complete, as [AppendEvent]
// does; id is its idempotence id. Its identifiers are the activity's, in their place the
// event's own of the same name, and the activity's user as fs_user_id unless the two
// name one already, be it by an alias. An empty user id names nobody. The errors are
// [ErrInvalidEvent]; nothing is appended then. Safe for concurrent use.
//
// Source: odp.md OD-20, OD-25, OD-P7 to OD-P9; the design of activities.
func (s Sender) AppendActivityEvent(dst []byte, a *schemas.Activity, e *schemas.ODPEvent, id string) ([]byte, error) {
	event := Event{Type: e.Type, Action: e.Action, ID: id, Identifiers: make(map[string]string, len(a.Identifiers)+len(e.Identifiers)+1)}
	isNamed := false
	for _, list := range [...][]schemas.Pair{a.Identifiers, e.Identifiers} {
		for i := range list {
			event.Identifiers[list[i].Key] = list[i].Value
			isNamed = isNamed || isUserID(list[i].Key)
		}
	}
	if !isNamed && a.UserID != "" {
		event.Identifiers[FSUserID] = a.UserID
	}
	if e.Data != nil {
		d := json.NewDecoder(bytes.NewReader(e.Data))
		d.UseNumber() // literals stay as they are
		if err := d.Decode(&event.Data); err != nil {
			return dst, invalidEvent("the data is no JSON object")
		}
	}
	return AppendEvent(dst, &event, s)
}

// isUserID tells whether an identifier is fs_user_id, or an alias that is renamed to it.
// Source: odp.md OD-25.
func isUserID(name string) bool {
	lower := strings.ToLower(name)
	return lower == FSUserID || lower == "fs-user-id"
}
