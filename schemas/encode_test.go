package schemas

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                        `""`,
		"plain":                   `"plain"`,
		"exactly8":                `"exactly8"`,
		`say "hi" \ `:             `"say \"hi\" \\ "`,
		"\b\f\n\r\t\x00\x1f\x7f":  "\"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\"",
		"é€😀 <&> \u2028":          "\"é€😀 <&> \u2028\"",
		"a\xffb\xc0\xafc\xed\xa0": "\"a\ufffdb\ufffd\ufffdc\ufffd\ufffd\"",
		"long enough for words\n": `"long enough for words\n"`,
	} {
		assert.Equal(t, want, string(AppendString(nil, in)))
	}
	assert.Equal(t, `prefix"x"`, string(AppendString([]byte("prefix"), "x")))
	assert.Equal(t, `["a","b\n"]`, string(appendStrings(nil, []string{"a", "b\n"})))
}

func TestNames(t *testing.T) {
	var kinds []string
	for k := KindNull; k <= KindComposite+1; k++ {
		kinds = append(kinds, k.String())
	}
	assert.Equal(t, []string{"null", "bool", "number", "string", "composite", "invalid"}, kinds)
	assert.Equal(t, "inferred", CSVInferred.String())
	assert.Equal(t, "string", CSVString.String())
	assert.Equal(t, "record rejected: not_json", (&Reject{Code: RejectNotJSON}).Error())
}
