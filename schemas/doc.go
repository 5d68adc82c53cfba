// Package schemas is the shape of everything that goes in and comes out: the
// Go types, the decoders and encoders that move them at speed, the derived
// ids, and the JSON Schemas (see FS).
//
// In goes the Activity. A Decoder reads it from its own JSON, a Mapping from
// another team's JSON, CSVColumns from a CSV row; Decoder.DecodeEvent finds either
// JSON in a CloudEvent, if the record's headers say that it is one. All fill the
// same type under the same rules and refuse a record with a *Reject, whose
// RejectCode is one of a closed set:
//
//	not_json         not one JSON value
//	not_utf8         invalid UTF-8, or half a surrogate pair
//	duplicate_key    an object, at any depth, with a key twice
//	missing_user_id  no user_id, or null
//	missing_field    an event without key, an ODP event without action, a
//	                 forced decision without flag_key or variation_key
//	wrong_type       a field of another type than its own
//	out_of_range     a timestamp outside the years 0000 to 9999
//	too_deep         nested deeper than MaxDepth
//	line_too_long    longer than the reader allows
//	bad_csv          misplaced quotes, or another number of cells than columns
//	bad_cloudevent   a CloudEvent's envelope without what it needs
//
// A Reject tells where and what was expected, never what stood there.
//
// Out goes the DecisionRecord, nested (one per activity), flat (one per
// activity and flag) or as CSV. IDs derives its id, and those of events, from
// where the activity was read, so that a repeat is recognisable. Dead letters
// and event batches keep the bytes of others; what is ours about them is their
// headers.
//
// Reading and writing allocate nothing once buffers have grown. The price is
// that an Activity is a view: it is valid until its Decoder's next Decode. A
// worker that needs several at a time uses DecodeMore and Reset.
//
// Decoder.Peek tells of a record only what must be known before it is decoded, for
// whoever looks at all records of a batch first.
//
// Every message has a version, 1. Fields may be added to a version; to change
// or take away one makes the next.
package schemas
