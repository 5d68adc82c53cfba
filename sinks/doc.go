// Package sinks is where results go.
//
// # The validator
//
// The event endpoint answers 204 to whatever it is sent and sorts it out later,
// out of sight: an event without its ids, from the future or of an unknown kind
// never shows up in any result. [Validate] tells beforehand. It compares a body
// with the schema of events.md 2.1 and the rules between its fields, and with the
// datafile if one is given ([CatalogOf]).
//
// A [Validator] does the same over many bodies and remembers enough of them to
// see what one body can't show: a uuid used again for something else, and a
// conversion from before its visitor's first decision. Its memory is bounded:
// the oldest is forgotten first, which can hide a [Problem] but never invents one.
//
// Problems name a place and a rule. No user id and no attribute value is in them.
package sinks
