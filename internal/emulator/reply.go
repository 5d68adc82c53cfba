package emulator

import (
	"encoding/json"
	"net/http"
)

// jsonReply is a reply of a value that JSON can hold.
func jsonReply(status int, value any) reply {
	body, err := json.Marshal(value)
	if err != nil {
		panic("BUG: a reply that is not JSON: " + err.Error())
	}
	return reply{status: status, header: map[string]string{"Content-Type": "application/json"}, body: body}
}

// problem is a reply that refuses.
func problem(status int, message string) reply {
	return jsonReply(status, map[string]any{"status": status, "title": http.StatusText(status), "detail": message})
}

// onlyPost refuses other methods.
func onlyPost(c *call) (reply, bool) {
	if c.r.Method == http.MethodPost {
		return reply{}, true
	}
	r := problem(http.StatusMethodNotAllowed, "only POST")
	r.header["Allow"] = http.MethodPost
	return r, false
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // the client may be gone
}
