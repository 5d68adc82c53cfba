package examples

import _ "embed"

//go:embed datafile.json
var datafile string

//go:embed activities.ndjson
var activities string

// Datafile returns the bytes of examples/datafile.json. Each call returns a
// copy, which belongs to the caller.
func Datafile() []byte { return []byte(datafile) }

// Activities returns the bytes of examples/activities.ndjson: one activity a
// line, each line ended by a line feed. Each call returns a copy, which belongs
// to the caller.
func Activities() []byte { return []byte(activities) }
