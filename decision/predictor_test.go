package decision

import (
	"context"
	"errors"
)

// A fakePredictor gives the answers it was told, "" for what it wasn't, and
// keeps the queries.
type fakePredictor struct {
	answers map[string]Prediction // by rule id
	failing map[string]bool
	queries []PredictionQuery
}

func (f *fakePredictor) Predict(_ context.Context, q *PredictionQuery) (Prediction, error) {
	f.queries = append(f.queries, *q)
	if f.failing[q.RuleID] {
		return Prediction{}, errors.New("prediction service is down")
	}
	return f.answers[q.RuleID], nil
}
