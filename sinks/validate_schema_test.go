package sinks_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"sortition/sinks"
)

// The rules written by hand must be those of the schema: whatever is done to a good
// body, both see a fault or neither does. Source: events.md 2.1.
func TestValidateIsTheSchema(t *testing.T) {
	text, err := os.ReadFile("testdata/event-batch.schema.json")
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("event-batch.schema.json", document))
	schema, err := compiler.Compile("event-batch.schema.json")
	require.NoError(t, err)

	good := strings.Replace(validateGood(), `"enabled":true`, `"enabled":true,"cmab_uuid":"x"`, 1)
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 2000 {
		var body any
		require.NoError(t, json.Unmarshal([]byte(good), &body))
		for range 1 + random.IntN(2) {
			mutate(random, body)
		}
		mutated, err := json.Marshal(body)
		require.NoError(t, err)
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(mutated))
		require.NoError(t, err)
		bySchema := schema.Validate(instance)
		byHand := isSchemaFault(sinks.Validate(mutated, nil, validateNow))
		require.Equal(t, bySchema != nil, byHand, "%s\n%v", mutated, bySchema)
		if byHand {
			refused++
		}
	}
	t.Logf("2000 bodies, %d refused by both", refused)
	require.Greater(t, refused, 500)
	require.Less(t, refused, 1950)
}

// The table of events.md section 2 gives these a type; the schema only wants them there.
var typedByTable = regexp.MustCompile(`metadata\.(flag|rule|variation)_key$`)

func isSchemaFault(problems []sinks.Problem) bool {
	for _, p := range problems {
		switch p.Code {
		case sinks.CodeWrongType:
			if !typedByTable.MatchString(p.Path) {
				return true
			}
		case sinks.CodeNullID, sinks.CodeMissing, sinks.CodeWrongValue, sinks.CodeWrongCount:
			return true
		case sinks.CodeEmptyID:
			if strings.HasSuffix(p.Path, ".cmab_uuid") { // others may be empty for the schema
				return true
			}
		default:
		}
	}
	return false
}

// mutate removes or replaces one member or element somewhere below value.
func mutate(random *rand.Rand, value any) {
	values := []any{nil, true, false, 7, 1.5, -1, "", "x", "123", "custom", []any{}, []any{"a", "b"}, map[string]any{}}
	for {
		switch v := value.(type) {
		case map[string]any:
			if len(v) == 0 {
				return
			}
			names := slices.Sorted(maps.Keys(v)) // the same sequence in every run
			name := names[random.IntN(len(names))]
			switch child := v[name]; {
			case isContainer(child) && random.IntN(5) > 0:
				value = child
			case random.IntN(2) == 0:
				delete(v, name)
				return
			default:
				v[name] = values[random.IntN(len(values))]
				return
			}
		case []any:
			if len(v) == 0 {
				return
			}
			i := random.IntN(len(v))
			if isContainer(v[i]) && random.IntN(8) > 0 {
				value = v[i]
				continue
			}
			v[i] = values[random.IntN(len(values))]
			return
		default:
			return
		}
	}
}

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	default:
		return false
	}
}
