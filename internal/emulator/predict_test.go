package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sortition/internal/emulator"
)

func predictionRequest(user, plan string, change ...string) string {
	return strings.NewReplacer(change...).Replace(fmt.Sprintf(`{"instances":[{"visitorId":%q,"experimentId":"30002",
		"attributes":[{"id":"501","value":%q,"type":"custom_attribute"}],"cmabUUID":"38f840c6-fd16-49c4-9202-3eebf6cda926"}]}`, user, plan))
}

func TestPredictions(t *testing.T) {
	em := start(t)
	ask := func(user, plan string) string {
		r := post(t, em, "/predict/30002", predictionRequest(user, plan))
		assert.Equal(t, 200, r.status)
		return r.body
	}
	seen := map[string]int{}
	for n := range 50 {
		user := fmt.Sprint("user-", n)
		first := ask(user, "gold")
		seen[first]++
		assert.Equal(t, first, ask(user, "gold"), "the same question, the same answer")
	}
	assert.Len(t, seen, 2)
	assert.Greater(t, seen[`{"predictions":[{"variation_id":"50011"}]}`], 10)
	assert.Greater(t, seen[`{"predictions":[{"variation_id":"50012"}]}`], 10)
	differs := false
	for n := range 20 {
		user := fmt.Sprint("user-", n)
		differs = differs || ask(user, "gold") != ask(user, "silver")
	}
	assert.True(t, differs, "it depends on the attributes")

	require.NoError(t, em.SetPrediction("30002", "", "50012"))
	require.NoError(t, em.SetPrediction("30002", "user-1", "50011"))
	assert.Equal(t, `{"predictions":[{"variation_id":"50011"}]}`, ask("user-1", "x"))
	assert.Equal(t, `{"predictions":[{"variation_id":"50012"}]}`, ask("user-2", "x"))
	assert.Error(t, em.SetPrediction("", "", "1"))
}

func TestPredictionRequestsAreValidated(t *testing.T) {
	em := start(t)
	for name, bad := range map[string]string{
		"no JSON":          `{`,
		"none":             `{"instances":[]}`,
		"two":              `{"instances":[{},{}]}`,
		"no visitor":       predictionRequest("u", "gold", `"visitorId"`, `"x"`),
		"other rule":       predictionRequest("u", "gold", `30002`, `30003`),
		"no attributes":    predictionRequest("u", "gold", `"attributes"`, `"x"`),
		"attribute by key": predictionRequest("u", "gold", `"id"`, `"key"`),
		"attribute type":   predictionRequest("u", "gold", `custom_attribute`, `custom`),
		"uuid":             predictionRequest("u", "gold", `38f840c6`, `38F840C6`),
	} {
		assert.Equal(t, 400, post(t, em, "/predict/30002", bad).status, name)
	}
	for _, a := range em.Attempts("/predict/") {
		assert.NotEmpty(t, a.Problems)
		assert.False(t, a.Accepted)
	}
	assert.Equal(t, 404, post(t, em, "/predict/30003", predictionRequest("u", "gold", "30002", "30003")).status)
	assert.Equal(t, 405, get(t, em, "/predict/30002").status)
	assert.Equal(t, 200, post(t, em, "/predict/30002", predictionRequest("", "gold", `"attributes":[{"id":"501","value":"gold","type":"custom_attribute"}]`, `"attributes":[]`)).status)
	assert.Len(t, em.Attempts(string(emulator.RoutePredict)), 12)
}
