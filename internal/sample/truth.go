package sample

import (
	"iter"
	"slices"
)

// Truth yields the ids of a population, and the segments each of them is in, the same
// ones that the activities of a Generator with this seed name. About a quarter of the
// visitors' activities name none: for those, this is what ODP has to know. The slices
// are the caller's.
func Truth(seed uint64, visitors uint32) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		var v visitor
		for number := range uint64(visitors) {
			v.become(seed, number)
			if !yield(string(v.id), slices.Clone(v.segments)) {
				return
			}
		}
	}
}

// Segments returns the names of all segments that anybody can be in. The caller owns
// the slice.
func Segments() []string {
	names := make([]string, len(segmentShares))
	for i, s := range segmentShares {
		names[i] = s.name
	}
	return names
}
