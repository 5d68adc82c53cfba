package schemas

import (
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The mapping as people write it, through the parser they write it for.
func TestMappingFromYAML(t *testing.T) {
	const text = `
user_id: payload.user.id
timestamp: {from: payload.ts, unit: s}
attributes:
  from: payload.traits
  rename:
    subscription: plan
attributes.channel: {const: web}
attributes.level: {const: 7}
attributes.ratio: {const: 0.25}
attributes.beta: {const: true}
decide: {const: [checkout, banner]}
events.0.key: payload.event
events.0.tags: {const: {nested: {a: [1, null]}}}
context: $
`
	var spec map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &spec))
	m, err := CompileMapping(spec)
	require.NoError(t, err)
	var d Decoder
	var a Activity
	require.NoError(t, m.Decode([]byte(`{"payload":{"user":{"id":"u"},"ts":5,"traits":{"subscription":"gold"},"event":"e"}}`), &d, &a))
	assert.Equal(t, "u", a.UserID)
	assert.Equal(t, int64(5000), a.Timestamp)
	assert.Equal(t, []Attribute{
		{"beta", Value{Kind: KindBool, Bool: true}},
		{"channel", Value{Kind: KindString, Text: "web"}},
		{"level", Value{Kind: KindNumber, Text: "7"}},
		{"ratio", Value{Kind: KindNumber, Text: "0.25"}},
		{"plan", Value{Kind: KindString, Text: "gold"}},
	}, a.Attributes)
	assert.Equal(t, []string{"checkout", "banner"}, a.Decide)
	assert.Equal(t, []Conversion{{Key: "e", Tags: []byte(`{"nested":{"a":[1,null]}}`)}}, a.Events)
	assert.NotEmpty(t, a.Context)

	for _, text := range []string{"user_id: 17", "user_id:", "user_id: [a]", "user_id: {const: .nan}", "user_id: {const: {1: 2}}"} {
		spec = nil
		require.NoError(t, yaml.Unmarshal([]byte(text), &spec))
		_, err := CompileMapping(spec)
		assert.ErrorContains(t, err, "user_id: ", text)
	}
}
