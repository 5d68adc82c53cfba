package sample

import "math/bits"

// random is SplitMix64: a counter stepped by the golden ratio, then mixed. It
// stands here because math/rand/v2 promises the sequence of its sources but not
// that of the methods which derive bounded numbers from them, and the bytes of
// the sample must not change with the Go version. It uses integers only:
// floating-point products may be fused on some machines.
//
// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators"
// (OOPSLA 2014).
type random struct{ state uint64 }

// seeded returns a random whose sequence depends on every word.
func seeded(words ...uint64) random {
	r := random{}
	for _, w := range words {
		r.state ^= w
		r.state = r.next()
	}
	return r
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n). The bias is at most n in 2^64.
func (r *random) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.next(), n)
	return hi
}

// between returns a number in [lo, hi].
func (r *random) between(lo, hi int64) int64 {
	return lo + int64(r.below(uint64(hi-lo+1)))
}

// chance is true in perMille of 1,000 cases.
func (r *random) chance(perMille int) bool {
	return r.below(1000) < uint64(perMille)
}

// pick returns one of the choices, all equally likely.
func pick[T any](r *random, choices []T) T {
	return choices[r.below(uint64(len(choices)))]
}

// weighted is a value and how often it is drawn, relative to its neighbours.
type weighted struct {
	value  string
	weight uint64
}

func pickWeighted(r *random, choices []weighted) string {
	total := uint64(0)
	for _, c := range choices {
		total += c.weight
	}
	at := r.below(total)
	for _, c := range choices {
		if at < c.weight {
			return c.value
		}
		at -= c.weight
	}
	panic("BUG: sample: a weighted draw beyond the total")
}

const hexDigits = "0123456789abcdef"

// appendHex appends the n lowest hexadecimal digits of x.
func appendHex(dst []byte, x uint64, n int) []byte {
	for shift := 4 * (n - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[x>>shift&15])
	}
	return dst
}
