package schemas

import "strconv"

// DecisionCSVHeader is the first row of decisions as CSV, without line end.
// A row is one activity and one flag, the columns those of the flat JSON
// layout with source as text, see Source.AppendText. segments, variables,
// reasons and context hold JSON.
const DecisionCSVHeader = "id,activity_id,user_id,timestamp,revision,datafile,source,segments,segments_error," +
	"flag_key,enabled,variation_key,rule_key,rule_type,experiment_id,variation_id,variables,cmab_uuid,error,reasons,context"

// AppendCSV appends the row of the i-th decision, without line end. A null is
// an empty cell, the empty string a quoted one. It reads the decision's fields
// and not its Fragment. It allocates nothing when dst has room.
//
// Source: RFC 4180.
func (r *DecisionRecord) AppendCSV(dst []byte, i int) []byte {
	f := &r.Decisions[i]
	dst = appendCell(dst, f.ID)
	dst = append(dst, ',')
	dst = appendCell(dst, r.ActivityID)
	dst = append(dst, ',')
	dst = appendCell(dst, r.UserID)
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, r.Timestamp, 10)
	dst = append(dst, ',')
	dst = appendCell(dst, r.Revision)
	dst = append(dst, ',')
	dst = appendCell(dst, r.Datafile)
	dst = append(dst, ',')
	from := len(dst)
	dst = quoteFrom(r.Source.AppendText(dst), from)
	dst = append(dst, ',')
	if r.HasSegments {
		from = len(dst)
		dst = quoteFrom(appendStrings(dst, r.Segments), from)
	}
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, r.SegmentsError, r.SegmentsError != "")
	dst = append(dst, ',')
	dst = appendCell(dst, f.FlagKey)
	dst = append(dst, ',')
	dst = strconv.AppendBool(dst, f.Enabled)
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.VariationKey, f.HasVariation)
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.RuleKey, f.HasRule)
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.RuleType, f.RuleType != "")
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.ExperimentID, f.ExperimentID != "")
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.VariationID, f.VariationID != "")
	dst = append(dst, ',')
	if f.Variables == "" {
		dst = append(dst, "{}"...)
	} else {
		dst = appendCell(dst, f.Variables)
	}
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.CMABUUID, f.CMABUUID != "")
	dst = append(dst, ',')
	dst = appendCellOrNull(dst, f.Error, f.Error != "")
	dst = append(dst, ',')
	from = len(dst)
	dst = quoteFrom(appendReasons(dst, f.Reasons), from)
	dst = append(dst, ',')
	if r.Context != nil {
		dst = appendCell(dst, alias(r.Context))
	}
	return dst
}

func appendCellOrNull(dst []byte, s string, present bool) []byte {
	if !present {
		return dst
	}
	return appendCell(dst, s)
}

// appendCell appends one cell that is not null.
func appendCell(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, '"', '"')
	}
	from := len(dst)
	return quoteFrom(append(dst, s...), from)
}

// quoteFrom quotes the cell that begins at from, in place, if it needs it. An
// outer space does, for readers that trim.
func quoteFrom(dst []byte, from int) []byte {
	cell := dst[from:]
	quotes, special := 0, false
	for _, c := range cell {
		switch c {
		case '"':
			quotes++
		case ',', '\n', '\r':
			special = true
		}
	}
	if quotes == 0 && !special && (len(cell) == 0 || cell[0] != ' ' && cell[len(cell)-1] != ' ') {
		return dst
	}
	end := len(dst)
	for range quotes + 2 {
		dst = append(dst, '"')
	}
	// From the back, so that nothing is overwritten before it has moved.
	to := len(dst) - 1
	for i := end - 1; i >= from; i-- {
		to--
		dst[to] = dst[i]
		if dst[i] == '"' {
			to--
			dst[to] = '"'
		}
	}
	dst[from] = '"'
	return dst
}
