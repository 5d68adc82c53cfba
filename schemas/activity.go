package schemas

// Activity is one decoded input record: a user did something, or is to be
// assigned. Its strings and slices alias the Decoder's buffers or the decoded
// bytes; Decoder.Decode says how long they live.
//
// A field that was absent and one that was null are the same thing. A Has
// field tells them from the empty value where that matters.
type Activity struct {
	// UserID may be empty: the SDKs accept the empty user id.
	UserID string
	// ID is the producer's own id of the record, meaningful when HasID.
	ID    string
	HasID bool
	// Timestamp is in milliseconds since the Unix epoch, meaningful when
	// HasTimestamp.
	Timestamp    int64
	HasTimestamp bool
	// Attributes are in input order, keys unique; nil when absent.
	Attributes []Attribute
	// Identifiers are the ODP identifiers beside fs_user_id, in input order,
	// keys unique. A null identifier is left out.
	Identifiers []Pair
	// Segments are the user's audience segments when HasSegments; otherwise
	// they are not known, which is not the same as none.
	Segments    []string
	HasSegments bool
	// Decide lists the flag keys asked for, in order and with repeats, when
	// HasDecide and not DecideAll. An empty list asks for nothing.
	Decide    []string
	DecideAll bool
	HasDecide bool
	// Options are decide options as given; the engine judges their names.
	Options []string
	Forced  []ForcedDecision
	Events  []Conversion
	// ODPEvents are events for the customer data platform.
	ODPEvents []ODPEvent
	// Context is raw JSON, nil when absent.
	Context []byte
	// Unknown counts the fields nobody asked for, at the top and inside list
	// elements. They were checked like everything else and then ignored.
	Unknown int
}

// Attribute is one user attribute.
type Attribute struct {
	Key   string
	Value Value
}

// Pair is a key with a string value.
type Pair struct{ Key, Value string }

// Kind is the JSON type of a Value.
type Kind uint8

// The kinds. The zero Value is null.
const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindComposite
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindNull:
		return "null"
	case KindBool:
		return "bool"
	case KindNumber:
		return "number"
	case KindString:
		return "string"
	case KindComposite:
		return "composite"
	}
	return "invalid"
}

// Value is an attribute's value. Text is the decoded text of a string, the
// literal of a number exactly as written (1.50 stays 1.50), and the raw JSON
// of an array or object.
type Value struct {
	Kind Kind
	Bool bool
	Text string
}

// ForcedDecision forces one flag, or with HasRule one rule of it, to a
// variation.
//
// Source: decide.md section 11.
type ForcedDecision struct {
	FlagKey, RuleKey, VariationKey string
	HasRule                        bool
}

// Conversion is one event to track. Tags is the raw JSON object, nil when
// there was none; Timestamp is in milliseconds since the Unix epoch.
//
// Source: events.md section 4, EV-27.
type Conversion struct {
	Key          string
	Tags         []byte
	Timestamp    int64
	HasTimestamp bool
}

// ODPEvent is one event for the customer data platform. Data is the raw JSON
// object, nil when there was none.
//
// Source: odp.md section 5.
type ODPEvent struct {
	Type, Action string
	HasType      bool
	Identifiers  []Pair
	Data         []byte
}
