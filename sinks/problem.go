package sinks

// A Problem is one thing wrong with an event body.
type Problem struct {
	Path     string   `json:"path"` // such as visitors[3].snapshots[0].events[0].uuid; "" is the body as a whole
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"` // for people; holds no value of the body
}

// A Severity says how sure it is that a problem costs data.
type Severity string

// The severities.
const (
	// SeverityError: the endpoint can't use the body, or results will be wrong.
	SeverityError Severity = "error"
	// SeverityWarning: it is used, but it may not mean what its maker meant.
	SeverityWarning Severity = "warning"
)

// A Code names the rule that a body breaks.
type Code string

// The codes. Each has the severity error, but for those that say otherwise.
const (
	// The body as a whole.
	CodeTooLarge Code = "too_large" // more bytes than the endpoint takes; nothing else was looked at
	CodeNotUTF8  Code = "not_utf8"
	CodeNotJSON  Code = "not_json" // also: more than one value

	// The schema. Source: events.md 2.1.
	CodeMissing    Code = "missing_field"
	CodeWrongType  Code = "wrong_type"
	CodeWrongValue Code = "wrong_value" // of the right type, but not one that is allowed
	CodeWrongCount Code = "wrong_count" // an array of too few or too many elements

	// CodeNullID is a warning: null for the campaign_id and entity_id of an impression
	// for which nothing matched. The schema wants "", but the JavaScript and Java SDKs
	// send null, so the endpoint must know it. Source: events.md section 10.
	CodeNullID Code = "null_id"

	// Ids that must not be empty. Source: events.md section 2.
	CodeEmptyID Code = "empty_id"

	// Between fields. Source: events.md 2.1, EV-18.
	CodeEntityMismatch     Code = "entity_mismatch"      // an impression's entity_id is not its campaign_id
	CodeDecisionMissing    Code = "decision_missing"     // key campaign_activated without decisions
	CodeDecisionUnexpected Code = "decision_unexpected"  // decisions with another key
	CodeFutureTimestamp    Code = "timestamp_in_future"  // later than now and the tolerance
	CodeImplausibleTime    Code = "timestamp_not_millis" // a warning: in the first years after 1970, as seconds read as milliseconds are
	CodeUUIDConflict       Code = "uuid_conflict"        // the uuid of an event that was different
	CodeConversionTooEarly Code = "conversion_before_decision"
	CodeWrongAccount       Code = "wrong_account" // not the datafile's
	CodeWrongProject       Code = "wrong_project"
	CodeUnknownEvent       Code = "unknown_event"     // the datafile has no event of this key
	CodeEventIDMismatch    Code = "event_id_mismatch" // the datafile's event of this key has another id
	CodeMoreProblems       Code = "more_problems"     // the list was cut here
)
