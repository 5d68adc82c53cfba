package emulator

import (
	"encoding/json"
	"mime"
	"net/http"

	"sortition/sinks"
)

// A Visitor is one event of a body of the event endpoint.
type Visitor struct {
	ID         string          `json:"visitor_id"`
	UUID       string          `json:"uuid"`
	Key        string          `json:"key"`
	EntityID   string          `json:"entity_id"`
	Timestamp  json.Number     `json:"timestamp"` // ms since the epoch
	Impression bool            `json:"impression"`
	Raw        json.RawMessage `json:"-"` // the whole element, aliasing the body
}

// codeContentType is the emulator's own: the SDKs all say application/json.
const codeContentType sinks.Code = "wrong_content_type"

// events answers POST /v1/events: 204, whatever it is sent.
// Source: events.md section 1.
func (e *Emulator) events(c *call) reply {
	if r, ok := onlyPost(c); !ok {
		return r
	}
	report := e.inbox.check(c.attempt.Body, c.attempt.Time)
	c.attempt.Problems = report.Problems
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		c.attempt.Problems = append(c.attempt.Problems, sinks.Problem{
			Code: codeContentType, Severity: sinks.SeverityWarning, Message: "the header Content-Type should be application/json",
		})
	}
	c.attempt.repeats = report.Repeats
	return reply{status: http.StatusNoContent}
}

// visitorsOf reads the events of a body, as far as it has any.
func visitorsOf(body []byte) []Visitor {
	var wire struct {
		Visitors []json.RawMessage `json:"visitors"`
	}
	if json.Unmarshal(body, &wire) != nil {
		return nil
	}
	visitors := make([]Visitor, 0, len(wire.Visitors))
	for _, raw := range wire.Visitors {
		var v struct {
			ID        string `json:"visitor_id"`
			Snapshots []struct {
				Decisions []json.RawMessage `json:"decisions"`
				Events    []struct {
					UUID      string      `json:"uuid"`
					Key       string      `json:"key"`
					EntityID  string      `json:"entity_id"`
					Timestamp json.Number `json:"timestamp"`
				} `json:"events"`
			} `json:"snapshots"`
		}
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		for _, s := range v.Snapshots {
			for _, ev := range s.Events {
				visitors = append(visitors, Visitor{
					ID: v.ID, UUID: ev.UUID, Key: ev.Key, EntityID: ev.EntityID, Timestamp: ev.Timestamp,
					Impression: len(s.Decisions) > 0, Raw: raw,
				})
			}
		}
	}
	return visitors
}
