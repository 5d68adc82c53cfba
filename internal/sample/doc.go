// Package sample makes up input: the activities of a shop's visitors, and
// datafiles of any size.
//
// Everything is a function of a seed. The same seed gives the same bytes on
// every machine and with every Go version, because the random numbers are our
// own (random.go) and neither the clock nor a map's order takes part; tests pin
// the hashes. So a run over the sample can be repeated, compared and quoted.
//
// The activities fit the datafile in examples/: same flags, same attributes,
// same events, same segments. A visitor's country, plan, device, age and
// segments are derived from the seed and the visitor's number whenever the
// visitor returns. Nothing is remembered, so a population of a million costs no
// memory.
//
// Truth tells the segments of the whole population, also of the quarter whose
// activities leave them to be asked for.
//
// A chosen share of the records is unusable, each in one of the ways that real
// topics show; Generator.Reject tells which, so that a test can keep account:
// read = decided + rejected.
package sample
