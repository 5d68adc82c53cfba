// Package fileio reads and writes the files of the batch commands.
//
// An [Input] is a file or standard input, unpacked if it is gzip or zstd. A
// [Cutter] cuts it into chunks of whole lines, or of whole CSV rows, which
// workers can take in parallel; where a chunk ends depends on the text alone,
// never on how the reads came in, so that what is made chunk by chunk is the
// same every time.
//
// An [Output] is a file that appears under its name only when it is complete:
// it is written beside its place and renamed. [Publish] does so for several
// files together.
package fileio
