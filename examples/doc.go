// Package examples holds what a newcomer runs first: the datafile of a made-up
// online shop and a hundred activities of its visitors.
//
// The files stand here, and not below internal/, so that they can be read,
// edited and handed to the commands by name. They are a package because
// `processor dev` must work from any folder, and a Go file can embed only what
// lies beside or below it.
//
//   - datafile.json: version 4; A/B tests with even, uneven and partial splits,
//     an exclusive and an overlapping group, a feature rollout, deliveries with
//     an everyone-else rule, a paused experiment, a global and a local holdout,
//     audiences of every match type, variables of all five types.
//   - activities.ndjson: the first hundred records of the generator in
//     internal/sample, with the default options and seed 1.
package examples
