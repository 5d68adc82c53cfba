package decision

import (
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"
)

// A nameTable maps names of the datafile to indexes. It is built once and then
// only read, so it can hash a name by its length and its first and last bytes,
// in half the time of a map. When too many names collide that way, as names with
// equal beginnings and ends do, it hashes them whole.
type nameTable struct {
	entries []nameEntry // a power of two, at most half full; index none: free
	hashAll bool
}

type nameEntry struct {
	name  string
	index uint32
}

// maxProbes is how far a name may stand from its place before names are hashed
// whole.
const maxProbes = 12

var nameSeed = maphash.MakeSeed()

func newNameTable(indexes map[string]uint32) nameTable {
	// How far names stand from their places depends on the order they come in:
	// the same datafile must always give the same table.
	names := slices.Sorted(maps.Keys(indexes))
	for _, hashAll := range []bool{false, true} {
		t := nameTable{hashAll: hashAll}
		size := 4
		for size < 2*len(indexes) {
			size *= 2
		}
		t.entries = make([]nameEntry, size)
		for i := range t.entries {
			t.entries[i].index = none
		}
		longest := 0
		for _, name := range names {
			i, probes := t.start(name), 0
			for ; t.entries[i].index != none; probes++ {
				i = (i + 1) & (size - 1)
			}
			t.entries[i] = nameEntry{name, indexes[name]}
			longest = max(longest, probes)
		}
		if longest <= maxProbes || hashAll {
			return t
		}
	}
	panic("BUG: no name table")
}

// find returns the index of a name, or none.
func (t *nameTable) find(name string) uint32 {
	mask := len(t.entries) - 1
	for i := t.start(name); ; i = (i + 1) & mask {
		e := &t.entries[i&mask]
		if e.index == none || e.name == name {
			return e.index
		}
	}
}

func (t *nameTable) start(name string) int {
	if t.hashAll {
		return int(maphash.String(nameSeed, name)) & (len(t.entries) - 1)
	}
	var a, b uint64
	switch n := len(name); {
	case n >= 8:
		a, b = le64(name), le64(name[n-8:])
	case n >= 4:
		a, b = uint64(le32(name)), uint64(le32(name[n-4:]))
	case n > 0:
		a, b = uint64(name[0])|uint64(name[n/2])<<8, uint64(name[n-1])
	}
	hi, lo := bits.Mul64(a^0x9E3779B97F4A7C15, bits.RotateLeft64(b, 29)^uint64(len(name))^0xD6E8FEB86659FD93)
	return int(hi^lo) & (len(t.entries) - 1)
}

func le64(s string) uint64 {
	_ = s[7]
	return uint64(le32(s)) | uint64(le32(s[4:]))<<32
}
