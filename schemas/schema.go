package schemas

import "embed"

// FS holds the JSON Schemas (2020-12) of all messages, named
// <message>.v<version>.schema.json. The $id of each is
// urn:sortition:<message>:v<version>; decision-flat refers to decision by it.
//
//go:embed *.schema.json
var FS embed.FS
