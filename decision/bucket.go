package decision

import "math/bits"

// numBuckets is the resolution of traffic allocation.
const numBuckets = 10000

// A hashState is MurmurHash3 (x86, 32 bit, seed 1) after a first part of its
// key, so that the hash of one user id with many salts reads the id once.
// Source: bucketing.md BK-1, BK-4.
type hashState struct {
	h      uint32
	length int     // bytes taken in so far, tail included
	tail   [3]byte // the last length%4 bytes, not yet mixed
}

const (
	murmurC1 = 0xCC9E2D51
	murmurC2 = 0x1B873593
)

func murmurScramble(k uint32) uint32 {
	return bits.RotateLeft32(k*murmurC1, 15) * murmurC2
}

func murmurMix(h, k uint32) uint32 {
	return bits.RotateLeft32(h^murmurScramble(k), 13)*5 + 0xE6546B64
}

func newHashState(s string) hashState {
	st := hashState{h: 1, length: len(s)}
	for len(s) >= 4 {
		st.h = murmurMix(st.h, le32(s))
		s = s[4:]
	}
	copy(st.tail[:], s)
	return st
}

func le32(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// sum returns the hash of everything taken in so far followed by salt.
func (st *hashState) sum(salt string) uint32 {
	h := st.h
	length := st.length + len(salt)
	held := uint(st.length&3) * 8 // bits of the tail waiting in front of the salt
	if held == 0 {
		for len(salt) >= 4 {
			h = murmurMix(h, le32(salt))
			salt = salt[4:]
		}
		var k uint32
		for i := len(salt) - 1; i >= 0; i-- {
			k = k<<8 | uint32(salt[i])
		}
		if len(salt) > 0 {
			h ^= murmurScramble(k)
		}
		return murmurFinish(h, length)
	}
	carry := uint32(st.tail[0]) | uint32(st.tail[1])<<8 | uint32(st.tail[2])<<16
	carry &= 1<<held - 1
	for len(salt) >= 4 {
		k := le32(salt)
		h = murmurMix(h, carry|k<<held)
		carry = k >> (32 - held)
		salt = salt[4:]
	}
	// At most three bytes held and three of the salt are left.
	rest := uint64(carry)
	n := held
	for i := 0; i < len(salt); i++ {
		rest |= uint64(salt[i]) << n
		n += 8
	}
	if n >= 32 {
		h = murmurMix(h, uint32(rest))
		rest >>= 32
		n -= 32
	}
	if n > 0 {
		h ^= murmurScramble(uint32(rest))
	}
	return murmurFinish(h, length)
}

func murmurFinish(h uint32, length int) uint32 {
	h ^= uint32(length)
	h ^= h >> 16
	h *= 0x85EBCA6B
	h ^= h >> 13
	h *= 0xC2B2AE35
	h ^= h >> 16
	return h
}

// Hash is the hash that buckets users: MurmurHash3, x86, 32 bit, seed 1, over
// the UTF-8 bytes of key, unsigned. Source: bucketing.md BK-1.
func Hash(key string) uint32 {
	st := newHashState(key)
	return st.sum("")
}

// Bucket turns a hash into a bucket from 0 to 9999 in integer arithmetic, which
// equals the SDKs' floating-point formula for every hash.
// Source: bucketing.md BK-2, BK-3.
func Bucket(hash uint32) int { return int(uint64(hash) * numBuckets >> 32) }
