package decision

import (
	"math/rand/v2"
	"testing"
)

// Random trees agree with the reference. FuzzConditions looks further.
func TestConditionsAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	for range 3000 {
		checkConditions(t, &source{rand: rnd.IntN})
	}
}
