package pipeline

import (
	"context"
	"strings"

	"sortition/decision"
	"sortition/schemas"
)

// predictionKey finds in a context the id that an activity's predictions are named
// after.
type predictionKey struct{}

// withPredictionIDs tells the predictor which activity asks. It costs an allocation or
// two, and is for streams that have a predictor only.
func withPredictionIDs(ctx context.Context, ids *schemas.IDs) context.Context {
	return context.WithValue(ctx, predictionKey{}, strings.Clone(ids.Text(schemas.IDPrediction, "", 0)))
}

// PredictionID is the id of the request for a prediction that an activity needs,
// derived from the activity and the rule: an activity that is worked on again asks
// with the same id. It is for a [decision.Predictor] asked by an [Assigner], which puts
// into ctx what is needed; otherwise ids are the same for all. Safe for concurrent use.
//
// Source: cmab.md CM-8.
func PredictionID(ctx context.Context, q *decision.PredictionQuery) string {
	name, _ := ctx.Value(predictionKey{}).(string)
	var ids schemas.IDs
	ids.Start("", &schemas.Source{}, name, true)
	return strings.Clone(ids.Text(schemas.IDPrediction, q.RuleID, 0))
}
