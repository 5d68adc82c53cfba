// Command chaos lets real processes of `processor run` work for minutes amid kills,
// stops, restarts of the broker and failing endpoints, and then takes account of every
// single activity: `make chaos`.
//
//	activities ─▶ processors (3, now and then 2 to 5) ─▶ decisions, events, ODP events, dead letters
//	                 ▲ kill -9, SIGSTOP, SIGTERM             └─▶ emulator ◀─ faults
//	              broker ◀─ restarts
//
// Activities arrive at an even rate during the whole time, so that there is always work
// under way when something happens. What happens, in which order and after which pauses,
// comes from a seed; how the processes meet it doesn't, of course.
//
// At the end everybody is well again: the faults are removed, what was stopped
// continues, and three processes work off what is left and are told to end. Then the
// auditor, who trusts no counter of the processes, reads all topics and asserts:
//
//   - Every activity has its decision record, or its dead letter: 0 missing.
//   - Each of them, and each repetition, is byte for byte what a calm run makes of the
//     activity: key, value, headers and time. The auditor decides all activities
//     again to know that; for dead letters it includes the original.
//   - The events and ODP events which a calm run makes, no more and no less, are in
//     their topics; repeats are the same bytes with the same uuids.
//   - All of them arrived at the emulator: their uuids and idempotence ids, in the same
//     bytes.
//   - No committed offset was ever seen to go backwards: somebody asked all the time.
//   - No process ended by itself, and those which were told to ended in good order.
//
// It remembers hashes, 8 bytes for an event and 16 for an activity, so a million
// activities take tens of megabytes.
//
// # Files
//
// main.go (flags), run.go (the course of a run), broker.go, fleet.go (processes),
// mischief.go (what happens to them), traffic.go (activities), offsets.go (who watches
// the groups), expect.go (what a calm run would make), audit.go (topics against that),
// hashes.go, report.go.
package main
