// Package datafile is where datafiles come from. A [Source] finds a datafile,
// compiles it and publishes the [decision.Project]; whoever decides loads the
// project with one atomic read and is never held up by a source at work.
//
//   - [NewStatic] holds one datafile given as bytes.
//   - [NewFile] watches a file: replaced, rewritten by an editor, or swapped by
//     Kubernetes behind a chain of symbolic links.
//   - [NewPoller] asks a CDN for the datafile of an SDK key, with an access token
//     or without, at an interval and whenever a [Webhook] says there is news.
//   - [Open] chooses among them by what is configured.
//
// All of them install what they find in the same way (config.md section 4): a
// datafile that doesn't compile is an error in [Status] and a line in the log,
// and the project in force stays; one of the same revision is passed over even
// if its content differs; any other revision, higher or lower, replaces the
// project and is announced to the listeners with the project it replaced.
//
// Constructors start nothing and touch no network. A source works while its Run
// does, and Run returns when its context ends. [WaitReady] holds a program's
// start until the first project is there.
//
// Two things live on disk if they are asked for. The poller's cache file holds
// the last good datafile, for a start while the CDN is away. The [Archive] keeps
// every datafile that was ever in force, under the hash of its text, with the
// time it came into force, so that a decision can be recomputed later.
//
// SDK keys, access tokens and webhook secrets appear in no error and no log.
//
// Rules named CF are those of config.md, DF those of datafile.md.
package datafile
