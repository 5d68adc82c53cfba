// Package cmab answers for contextual bandits: a [Predictor] asks the prediction
// service over HTTP which variation of a bandit rule a user should get. It is the
// [decision.Predictor] of programs that talk to Optimizely; what a bandit rule is,
// and what becomes of its answer, is the engine's affair.
//
// A prediction is kept for its user and rule, and given again while the attributes
// that the model may use stay the same; the cache is bounded by size and age, and
// can be one of the program's own. Of several callers who want the same prediction
// at once, one asks and the others share its answer; nobody waits for a stranger.
//
// A request is repeated once if the network or the service failed, and the whole
// of it, waiting included, takes no longer than a budget. A decision made in a
// stream can't wait longer: it becomes an error decision, and says so.
//
// Nothing runs in the background: a Predictor works while Predict does. User ids
// and attribute values appear in no error and no count.
//
// Rules named CM are those of cmab.md; where one has a P, it is ours.
package cmab
