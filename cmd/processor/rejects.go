package main

import (
	"encoding/base64"
	"errors"
	"strconv"
	"unicode/utf8"

	"sortition/schemas"
)

// rejectOf gives the reject that a decoder's error is.
func rejectOf(err error) *schemas.Reject {
	var reject *schemas.Reject
	if !errors.As(err, &reject) {
		panic("BUG: a decoder returned something else than a reject: " + err.Error())
	}
	return reject
}

// appendReject appends the line of a rejects file:
//
//	{"file":"users.ndjson","line":7,"code":"not_json","detail":"…","input":"…"}
//
// input is the record byte for byte, without the line feed. Text that is not
// UTF-8 has no JSON string; then there is input_base64 instead. So it is for a
// line beyond maxLine, which is never held as a whole (see passLongLine).
func appendReject(dst []byte, file string, line int64, reject *schemas.Reject, input []byte) []byte {
	dst = appendRejectHead(dst, file, line, reject)
	if utf8.Valid(input) {
		dst = append(dst, `,"input":`...)
		dst = schemas.AppendString(dst, string(input))
	} else {
		dst = append(dst, `,"input_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, input)
		dst = append(dst, '"')
	}
	return append(dst, "}\n"...)
}

func appendRejectHead(dst []byte, file string, line int64, reject *schemas.Reject) []byte {
	dst = schemas.AppendString(append(dst, `{"file":`...), file)
	dst = strconv.AppendInt(append(dst, `,"line":`...), line, 10)
	dst = schemas.AppendString(append(dst, `,"code":`...), string(reject.Code))
	return schemas.AppendString(append(dst, `,"detail":`...), reject.Detail)
}
