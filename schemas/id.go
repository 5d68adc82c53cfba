package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// IDKind is what an id is for. Its text is part of what is hashed.
type IDKind string

// The kinds of derived ids.
const (
	IDDecision   IDKind = "decision"   // a decision record; key: the flag in the flat layout, "" in the nested
	IDImpression IDKind = "impression" // an impression's uuid; key: the flag
	IDConversion IDKind = "conversion" // a conversion's uuid; key: the event
	IDODPEvent   IDKind = "odp_event"  // an ODP event; key: its action
	IDPrediction IDKind = "prediction" // a request for a bandit's prediction; key: the rule's id
)

// IDs derives the ids of everything that one activity gives rise to. The same
// activity read again, on any machine and by any worker, gives the same ids.
//
// An id is the first 16 bytes of a SHA-256 hash, with the version bits of a
// UUID set to 4 and the variant bits to RFC 9562, in lower case with dashes.
// Hashed is this concatenation, where str(x) is the length of x in bytes as a
// big-endian uint32 followed by its bytes, and int(n) is n as a big-endian
// int64 in two's complement:
//
//	str("sortition.id.v1") str(stream)
//	and one of   str("id") str(activity's own id)
//	             str("topic") str(topic) int(partition) int(offset)
//	             str("file") str(base name) int(line)
//	str(kind) str(key) int(ordinal)
//
// The ordinal counts, from 0, the outputs of the same kind and key. The zero
// value is ready for Start. It is not safe for concurrent use.
//
// Source: events.md EV-3 asks for a uuid that stays the same over all retries.
type IDs struct {
	prefix []byte // the hashed text up to the kind
	start  int    // length of the part of prefix for the stream
	stream string
	texts  []byte
	block  [sha256.Size]byte
}

// Start makes the following ids those of the activity read from source, whose
// own id is ownID when it has one. The stream's name keeps the ids of two
// streams over one topic apart. Texts given out earlier become invalid.
func (g *IDs) Start(stream string, source *Source, ownID string, hasOwnID bool) {
	g.texts = g.texts[:0]
	if g.start == 0 || stream != g.stream {
		g.stream = stream
		g.prefix = appendFramed(g.prefix[:0], "sortition.id.v1")
		g.prefix = appendFramed(g.prefix, stream)
		g.start = len(g.prefix)
	}
	p := g.prefix[:g.start]
	switch {
	case hasOwnID:
		p = appendFramed(p, "id")
		p = appendFramed(p, ownID)
	case source.Topic != "":
		p = appendFramed(p, "topic")
		p = appendFramed(p, source.Topic)
		p = appendInt(p, int64(source.Partition))
		p = appendInt(p, source.Offset)
	default:
		p = appendFramed(p, "file")
		p = appendFramed(p, source.File)
		p = appendInt(p, source.Line)
	}
	g.prefix = p
}

// Append appends the id, 36 bytes, of one output.
func (g *IDs) Append(dst []byte, kind IDKind, key string, ordinal int) []byte {
	message := appendFramed(g.prefix, string(kind))
	message = appendFramed(message, key)
	message = appendInt(message, int64(ordinal))
	g.prefix = message[:len(g.prefix)] // keep the room that was grown

	g.block = sha256.Sum256(message)
	id := g.block[:16]
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	text[8] = '-'
	hex.Encode(text[9:13], id[4:6])
	text[13] = '-'
	hex.Encode(text[14:18], id[6:8])
	text[18] = '-'
	hex.Encode(text[19:23], id[8:10])
	text[23] = '-'
	hex.Encode(text[24:36], id[10:16])
	return append(dst, text[:]...)
}

// Text is Append into a buffer of g's own. The string is valid until the next
// Start.
func (g *IDs) Text(kind IDKind, key string, ordinal int) string {
	at := len(g.texts)
	g.texts = g.Append(g.texts, kind, key, ordinal)
	return alias(g.texts[at:])
}

// SourceText is the source's text form, the activity id of an activity without
// its own. The string is valid until the next Start.
func (g *IDs) SourceText(source *Source) string {
	at := len(g.texts)
	g.texts = source.AppendText(g.texts)
	return alias(g.texts[at:])
}

func appendFramed(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func appendInt(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}
