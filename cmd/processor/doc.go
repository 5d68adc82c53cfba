// Command processor assigns users to the variations of experiments: from files
// (assign) and from Kafka topics (run, dev); explain says why somebody gets a
// variation, check looks over a datafile.
//
// There is one file per command, with a struct whose tags are the command line
// and whose Run method is the command. Nothing here decides anything: package
// decision does, and packages schemas and pipeline read and write. This is the
// only place that knows them all.
//
// Every command ends with one of four exit codes: 0 done, 1 failed, 2 wrong
// usage or configuration, 3 done but some input was rejected. Results go to
// standard output, everything said about them to standard error.
package main

const description = `Assign users to the variations of Optimizely experiments, from files and from Kafka topics,
as the SDKs would.

"processor COMMAND --help" explains a command and shows examples.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done but some input was rejected.`
