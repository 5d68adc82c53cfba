// Package client is the face that Go programs see: a client of one Optimizely
// project, users with attributes, decisions, conversions. It decides as the official
// SDKs do, by package decision, and brings events to Optimizely.
//
//	c, err := client.Open(ctx, client.WithSDKKey("…"))
//	if err != nil { … }
//	defer c.Close(ctx)
//
//	user := c.NewUser("u-17", map[string]any{"plan": "pro", "age": 31})
//	if d := user.Decide(ctx, "checkout"); d.Enabled { … }
//	err = user.TrackEvent(ctx, "purchase", map[string]any{"revenue": 4200})
//
// # A client's life
//
// [New] checks the options and starts nothing; [Client.Start] begins to poll for
// datafiles and to deliver events; [Client.WaitReady] waits for the first datafile;
// [Open] is all three. [Client.Close] drains within a deadline and leaves nothing
// behind. [Client.Run] is for programs that run their parts side by side.
//
// Nothing else ever waits for a datafile. Without one a client is not ready: users
// can be made, [UserContext.Decide] gives a decision with [ErrNotReady], others give
// nothing and say why; only ODP events can wait for it, in an outbox. One call uses one datafile throughout; a new one comes into
// force between calls.
//
// # Users and decisions
//
// A [UserContext] is what the program knows of a user. It is safe for concurrent
// use, and a [Decision] holds a copy of it as it was. Decisions are values too:
// a flag's typed variables are parsed when somebody asks for them.
//
// # Events
//
// A decision sends an impression, unless an option says otherwise, and
// [UserContext.TrackEvent] sends a conversion. By default they wait in memory, in
// batches, and are lost if the process is killed. With [WithOutbox] they are on disk
// before the call returns, and arrive at least once. In both cases nothing is
// dropped silently: what can't be taken or delivered is returned, or goes to the
// error handler with its bytes.
//
// # Listening
//
// [Notifications] tell of decisions, conversions, batches, impressions and
// datafiles, in the calls that cause them.
//
// # What is where
//
//	client.go, life.go       New, Open, Start, Run, Close
//	options.go, …options.go  every setting, its default and its source
//	source.go                datafiles: readiness, the structured view
//	user.go, value.go        users and what attribute values may be
//	forced.go, segments.go   forced decisions and qualified segments
//	odp.go                   the client's own ODP
//	decide.go, decision.go   Decide, DecideForKeys, DecideAll and their results
//	variables.go             typed variables
//	worker.go                what one call needs, pooled
//	track.go                 conversions
//	event.go, processor.go   events on their way; deliver.go takes them out
//	outbox.go                the outboxes of events and of ODP events, and what was refused
//	notify.go, payload.go    listeners and what they are told
//	profile.go               how a user profile service's failures are reported
//	legacy.go, forcedvariations.go  the calls that are older than flags
//	errors.go, throttle.go   typed errors; one line a second in the log
//
// Rules named DC are those of decide.md, EV and EB of events.md and
// event-batching.md, CF of config.md, LG of legacy-api.md; I, O and U are the rows
// of pages.md.
package client
