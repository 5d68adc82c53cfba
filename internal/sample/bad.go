package sample

import "strconv"

// Codes of Generator.Reject; they equal those of package schemas.
const (
	RejectNotJSON       = "not_json"
	RejectNotUTF8       = "not_utf8"
	RejectDuplicateKey  = "duplicate_key"
	RejectMissingUserID = "missing_user_id"
	RejectWrongType     = "wrong_type"
)

// appendBad appends a record that must be rejected, and says so in g.reject. The
// kinds take turns at random; none of them is unusable for two reasons.
func (g *Generator) appendBad(dst []byte) []byte {
	r, start := &g.rand, len(dst)
	switch r.below(7) {
	case 0: // cut off on its way
		g.reject = RejectNotJSON
		dst = g.appendActivity(dst)
		return dst[:start+int(r.between(20, 60))]
	case 1: // the log of something else
		g.reject = RejectNotJSON
		dst = g.Time().AppendFormat(append(dst, "WARN "...), "2006-01-02 15:04:05")
		return append(dst, " checkout: slow answer from the payment gateway"...)
	case 2: // Latin-1
		g.reject = RejectNotUTF8
		dst = append(append(dst, `{"user_id":"`...), g.who.id...)
		return append(dst, "\",\"attributes\":{\"city\":\"Z\xfcrich\"}}"...)
	case 3: // one key, two values
		g.reject = RejectDuplicateKey
		dst = append(append(dst, `{"user_id":"`...), g.who.id...)
		return append(dst, `","attributes":{"plan":"free","plan":"pro"}}`...)
	case 4: // nobody's
		g.reject = RejectMissingUserID
		dst = strconv.AppendInt(append(dst, `{"timestamp":`...), g.now, 10)
		return append(append(append(dst, `,"attributes":{"country":"`...), g.who.country...), `"}}`...)
	case 5: // a number where a text belongs
		g.reject = RejectWrongType
		dst = strconv.AppendUint(append(dst, `{"user_id":`...), 100000+r.below(10000), 10)
		dst = strconv.AppendInt(append(dst, `,"timestamp":`...), g.now, 10)
		return append(dst, '}')
	default: // a list where an object belongs
		g.reject = RejectWrongType
		dst = append(append(dst, `{"user_id":"`...), g.who.id...)
		return append(dst, `","attributes":["DE","plus"]}`...)
	}
}
