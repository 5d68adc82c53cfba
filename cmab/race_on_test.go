//go:build race

package cmab

const isRace = true
