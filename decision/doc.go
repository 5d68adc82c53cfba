// Package decision is the engine: it assigns a user to the variations of an
// Optimizely project exactly as the official SDKs do, and nothing else. It has
// no I/O, no clock and no randomness, and imports only the standard library.
//
// The story has three parts.
//
// Compile. [Compile] validates a datafile, reporting every fault with its JSON
// path, and turns it into a [Project]: flat slices linked by index. Flags point
// at runs of rules, rules at audience programs, traffic ranges and variations.
// Attribute keys and segments are interned into slots, conditions become opcodes
// of a three-valued program, and the variables of every variation are parsed and
// rendered to JSON once. A Project never changes and is shared by everybody.
//
// Resolve. A [User] belongs to one worker. [User.Reset] binds it to a Project;
// [User.SetAttribute] puts each value into its slot, so that a decision never
// looks a name up. The result of an audience is remembered for the user, since
// many rules ask for the same one.
//
// Decide. [Project.Decide], [Project.DecideKeys] and [Project.DecideAll] walk
// the slices in the order of decide.md and append [Decision] values, which are
// views into the Project. They don't allocate unless reasons were asked for or
// a service outside (sticky profiles, contextual bandits) takes part. [Explain]
// is the same walk with a recorder attached, so it cannot disagree.
//
// What leaves for the event endpoint is a value too: [Impression] and
// [Conversion] know how to append themselves as visitors of an event batch.
//
// The behaviour is that of the Python SDK 5.7.0, rule by rule; comments name the
// rule (DC for decide.md, AU for audiences.md, BK for bucketing.md, DF for
// datafile.md, EV for events.md). Where SDKs differ, a rule with a P is ours.
package decision
