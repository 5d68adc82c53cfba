package sinks

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// The outbox's files, byte by byte. Integers are little-endian; the checksum is
// CRC-32C.
//
//	segment = header record*
//	header  = "SORTOBX1" first:u64 visitors:u64 checksum(before):u32 0:u32   32 bytes
//	record  = length(payload):u32 checksum(payload):u32 payload
//	payload = kind:u8 seq:u64 …
//	append  = kind 1: time:i64 (ms) visitors:u32 length:u16 endpoint length:u16 id body
//	settled = kind 2
//
// A segment is named for first, the sequence number of its first append; visitors
// counts those of all appends before it. Appends number themselves from there.
const (
	segmentMagic   = "SORTOBX1"
	segmentHeader  = 32
	recordHeader   = 8
	payloadHead    = 9
	appendFixed    = payloadHead + 8 + 4 + 2 + 2
	kindAppend     = 1
	kindSettled    = 2
	settledRecord  = recordHeader + payloadHead
	maxRecord      = 1 << 30
	maxRecordField = 1<<16 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendSegmentHeader(dst []byte, first, visitors uint64) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint64(dst, first)
	dst = binary.LittleEndian.AppendUint64(dst, visitors)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return binary.LittleEndian.AppendUint32(dst, 0)
}

func readSegmentHeader(b []byte) (first, visitors uint64, ok bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), true
}

// appendAppend appends an append record without its number; number completes it.
func appendAppend(dst []byte, b *Batch, at time.Time) []byte {
	dst = append(dst, make([]byte, recordHeader+payloadHead)...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(at.UnixMilli()))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Visitors))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(b.Endpoint)))
	dst = append(dst, b.Endpoint...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(b.ID)))
	dst = append(dst, b.ID...)
	return append(dst, b.Body...)
}

// number completes a record that is all of b.
func number(b []byte, kind byte, seq uint64) {
	payload := b[recordHeader:]
	payload[0] = kind
	binary.LittleEndian.PutUint64(payload[1:], seq)
	binary.LittleEndian.PutUint32(b, uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(payload, castagnoli))
}

// A record is one that was read. Its batch aliases the payload.
type record struct {
	kind  byte
	seq   uint64
	at    time.Time
	batch Batch
}

var errRecord = errors.New("unreadable record")

// readPayload reads a payload whose checksum is right.
func readPayload(p []byte) (r record, err error) {
	if len(p) < payloadHead {
		return r, errRecord
	}
	r.kind, r.seq = p[0], binary.LittleEndian.Uint64(p[1:])
	switch {
	case r.kind == kindSettled && len(p) == payloadHead:
		return r, nil
	case r.kind != kindAppend || len(p) < appendFixed:
		return r, errRecord
	}
	p = p[payloadHead:]
	r.at = time.UnixMilli(int64(binary.LittleEndian.Uint64(p)))
	r.batch.Visitors = int(binary.LittleEndian.Uint32(p[8:]))
	p = p[12:]
	field := func() []byte {
		n := 2 + int(binary.LittleEndian.Uint16(p))
		if n > len(p) {
			err, n = errRecord, 2
		}
		text := p[2:n]
		p = p[n:]
		return text
	}
	r.batch.Endpoint = string(field())
	if err != nil || len(p) < 2 {
		return r, errRecord
	}
	r.batch.ID = string(field())
	r.batch.Body = p
	return r, err
}
