package schemas

import "strconv"

// DecisionRecord is what was decided for one activity. It owns nothing: its
// strings may alias whatever its maker reads from, and an encoding call reads
// them and keeps nothing.
type DecisionRecord struct {
	// ID is the record's derived id, a UUID; see IDs.
	ID string
	// ActivityID is the producer's own id, or the input's coordinates.
	ActivityID string
	UserID     string
	// Timestamp is in milliseconds since the Unix epoch.
	Timestamp int64
	// Revision and Datafile say what decided: the datafile's revision and the
	// digest of its bytes.
	Revision, Datafile string
	Source             Source
	// Segments are written when HasSegments; otherwise null stands for "not
	// known", and SegmentsError, when not empty, says why.
	Segments      []string
	HasSegments   bool
	SegmentsError string
	Decisions     []FlagDecision
	// Context is the activity's raw JSON, left out when nil.
	Context []byte
}

// Source is where an activity came from: a Kafka topic, or, when Topic is
// empty, a file.
type Source struct {
	Topic     string
	Partition int32
	Offset    int64
	// File is the file's base name; Line counts from 1.
	File string
	Line int64
}

// FlagDecision is one flag's outcome.
type FlagDecision struct {
	// ID is the id of the flat record of this decision; the nested layout has
	// no place for it.
	ID           string
	FlagKey      string
	Enabled      bool
	VariationKey string // null unless HasVariation
	HasVariation bool
	RuleKey      string // null unless HasRule
	HasRule      bool
	// Empty ones of these are written as null.
	RuleType, ExperimentID, VariationID string
	// Variables is the raw JSON object; empty means {}.
	Variables string
	// CMABUUID and Error are left out when empty.
	CMABUUID string
	Error    string
	Reasons  []Reason
	// Fragment, when set, is this decision as AppendFlagDecision wrote it
	// without reasons, made once and reused. The other fields must be filled
	// all the same when there are Reasons, and for CSV.
	Fragment []byte
}

// Reason is one step of how a decision came about. RuleKey and Detail are left
// out when empty.
type Reason struct{ Code, RuleKey, Detail string }

// AppendJSON appends the record in the nested layout and returns the extended
// slice. It allocates nothing when dst has room.
func (r *DecisionRecord) AppendJSON(dst []byte) []byte {
	dst = r.appendHead(dst, r.ID)
	dst = append(dst, `,"decisions":[`...)
	for i := range r.Decisions {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendFlagDecision(dst, &r.Decisions[i])
	}
	dst = append(dst, ']')
	return r.appendTail(dst)
}

// AppendFlatJSON appends the record of the i-th decision in the flat layout:
// the nested record with that decision's fields, unchanged in name and order,
// in the place of decisions, and with that decision's own ID as id. It
// allocates nothing when dst has room.
func (r *DecisionRecord) AppendFlatJSON(dst []byte, i int) []byte {
	f := &r.Decisions[i]
	dst = r.appendHead(dst, f.ID)
	dst = append(dst, ',')
	if f.Fragment != nil && len(f.Reasons) == 0 {
		dst = append(dst, f.Fragment[1:len(f.Fragment)-1]...)
	} else {
		dst = f.appendMembers(dst)
	}
	return r.appendTail(dst)
}

// appendHead appends everything before the decisions, with the brace.
func (r *DecisionRecord) appendHead(dst []byte, id string) []byte {
	dst = append(dst, `{"id":`...)
	dst = AppendString(dst, id)
	dst = append(dst, `,"activity_id":`...)
	dst = AppendString(dst, r.ActivityID)
	dst = append(dst, `,"user_id":`...)
	dst = AppendString(dst, r.UserID)
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, r.Timestamp, 10)
	dst = append(dst, `,"revision":`...)
	dst = AppendString(dst, r.Revision)
	dst = append(dst, `,"datafile":`...)
	dst = AppendString(dst, r.Datafile)
	dst = append(dst, `,"source":`...)
	dst = r.Source.AppendJSON(dst)
	dst = append(dst, `,"segments":`...)
	if r.HasSegments {
		dst = appendStrings(dst, r.Segments)
	} else {
		dst = append(dst, "null"...)
	}
	if r.SegmentsError != "" {
		dst = append(dst, `,"segments_error":`...)
		dst = AppendString(dst, r.SegmentsError)
	}
	return dst
}

func (r *DecisionRecord) appendTail(dst []byte) []byte {
	if r.Context != nil {
		dst = append(dst, `,"context":`...)
		dst = append(dst, r.Context...)
	}
	return append(dst, '}')
}

// AppendJSON appends the source as an object, in its topic or its file form.
func (s *Source) AppendJSON(dst []byte) []byte {
	if s.Topic != "" {
		dst = append(dst, `{"topic":`...)
		dst = AppendString(dst, s.Topic)
		dst = append(dst, `,"partition":`...)
		dst = strconv.AppendInt(dst, int64(s.Partition), 10)
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendInt(dst, s.Offset, 10)
	} else {
		dst = append(dst, `{"file":`...)
		dst = AppendString(dst, s.File)
		dst = append(dst, `,"line":`...)
		dst = strconv.AppendInt(dst, s.Line, 10)
	}
	return append(dst, '}')
}

// AppendText appends the source as topic/partition/offset or file/line, the
// default activity id.
func (s *Source) AppendText(dst []byte) []byte {
	if s.Topic != "" {
		dst = append(dst, s.Topic...)
		dst = append(dst, '/')
		dst = strconv.AppendInt(dst, int64(s.Partition), 10)
		dst = append(dst, '/')
		return strconv.AppendInt(dst, s.Offset, 10)
	}
	dst = append(dst, s.File...)
	dst = append(dst, '/')
	return strconv.AppendInt(dst, s.Line, 10)
}

// AppendFlagDecision appends the JSON object of one decision and returns the
// extended slice. It allocates nothing when dst has room.
func AppendFlagDecision(dst []byte, d *FlagDecision) []byte {
	if d.Fragment != nil && len(d.Reasons) == 0 {
		return append(dst, d.Fragment...)
	}
	dst = append(dst, '{')
	dst = d.appendMembers(dst)
	return append(dst, '}')
}

func (d *FlagDecision) appendMembers(dst []byte) []byte {
	dst = append(dst, `"flag_key":`...)
	dst = AppendString(dst, d.FlagKey)
	dst = append(dst, `,"enabled":`...)
	dst = strconv.AppendBool(dst, d.Enabled)
	dst = append(dst, `,"variation_key":`...)
	dst = appendStringOrNull(dst, d.VariationKey, d.HasVariation)
	dst = append(dst, `,"rule_key":`...)
	dst = appendStringOrNull(dst, d.RuleKey, d.HasRule)
	dst = append(dst, `,"rule_type":`...)
	dst = appendStringOrNull(dst, d.RuleType, d.RuleType != "")
	dst = append(dst, `,"experiment_id":`...)
	dst = appendStringOrNull(dst, d.ExperimentID, d.ExperimentID != "")
	dst = append(dst, `,"variation_id":`...)
	dst = appendStringOrNull(dst, d.VariationID, d.VariationID != "")
	dst = append(dst, `,"variables":`...)
	if d.Variables == "" {
		dst = append(dst, "{}"...)
	} else {
		dst = append(dst, d.Variables...)
	}
	if d.CMABUUID != "" {
		dst = append(dst, `,"cmab_uuid":`...)
		dst = AppendString(dst, d.CMABUUID)
	}
	if d.Error != "" {
		dst = append(dst, `,"error":`...)
		dst = AppendString(dst, d.Error)
	}
	dst = append(dst, `,"reasons":`...)
	return appendReasons(dst, d.Reasons)
}

func appendReasons(dst []byte, reasons []Reason) []byte {
	dst = append(dst, '[')
	for i := range reasons {
		r := &reasons[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"code":`...)
		dst = AppendString(dst, r.Code)
		if r.RuleKey != "" {
			dst = append(dst, `,"rule_key":`...)
			dst = AppendString(dst, r.RuleKey)
		}
		if r.Detail != "" {
			dst = append(dst, `,"detail":`...)
			dst = AppendString(dst, r.Detail)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
