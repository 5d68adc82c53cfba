package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// A hasher remembers things as 64 bits. Two that differ have the same hash once in 2^64;
// the seed is another one in every process.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed()} }

// hashRecord hashes all that a record is but its place. null and empty differ.
func (h hasher) hashRecord(key, value []byte, headers []kafka.Header, at time.Time) uint64 {
	var m maphash.Hash
	m.SetSeed(h.seed)
	var number [8]byte
	part := func(b []byte) {
		n := int64(len(b))
		if b == nil {
			n = -1
		}
		binary.LittleEndian.PutUint64(number[:], uint64(n))
		_, _ = m.Write(number[:]) // a Hash takes everything
		_, _ = m.Write(b)
	}
	part(key)
	part(value)
	for i := range headers {
		part([]byte(headers[i].Key))
		part(headers[i].Value)
	}
	binary.LittleEndian.PutUint64(number[:], uint64(at.UnixMilli()))
	_, _ = m.Write(number[:])
	return m.Sum64()
}

// hashEvents appends the hash of each event of a body for the event endpoint: of all of its
// bytes, the uuid among them.
func (h hasher) hashEvents(dst []uint64, body []byte) ([]uint64, error) {
	var batch struct {
		Visitors []json.RawMessage `json:"visitors"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return dst, fmt.Errorf("not an event batch: %w", err)
	}
	for _, v := range batch.Visitors {
		dst = append(dst, maphash.Bytes(h.seed, v))
	}
	return dst, nil
}

// hashODPEvents does the same for a body for ODP.
func (h hasher) hashODPEvents(dst []uint64, body []byte) ([]uint64, error) {
	var batch []json.RawMessage
	if err := json.Unmarshal(body, &batch); err != nil {
		return dst, fmt.Errorf("not an ODP event batch: %w", err)
	}
	for _, e := range batch {
		dst = append(dst, maphash.Bytes(h.seed, e))
	}
	return dst, nil
}

// A heap of hashes, as they come. settle sorts it, takes repeats out and returns how
// many there were.
type heap []uint64

func (h *heap) settle() (repeats int) {
	slices.Sort(*h)
	before := len(*h)
	*h = slices.Compact(*h)
	return before - len(*h)
}

// lacks counts what is in a and not in b, both settled.
func lacks(a, b heap) (missing int) {
	for _, x := range a {
		for len(b) > 0 && b[0] < x {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != x {
			missing++
		}
	}
	return missing
}
