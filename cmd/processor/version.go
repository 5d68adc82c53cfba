package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"sortition/decision"
)

// version is the program's version. Events carry it as client version, so it
// changes with releases only and not with builds.
const version = "0.1.0-dev"

// client names us to the event endpoint. Source: events.md EV-P8.
var client = decision.Client{Name: "sortition", Version: version}

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Help is shown by --help.
func (versionCmd) Help() string {
	return `Examples:

    processor version
    processor version --json
`
}

// build is what the binary knows about its making.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; "" if the build doesn't know
	Modified bool   `json:"modified"` // built from a tree with changes
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func readBuild() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	return b
}

// Run prints the version.
func (c *versionCmd) Run(std stdio) error {
	b := readBuild()
	if c.JSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	}
	revision := b.Revision
	switch {
	case revision == "":
		revision = "unknown"
	case b.Modified:
		revision += " (modified)"
	}
	_, err := fmt.Fprintf(std.out, "processor %s\nrevision  %s\ngo        %s %s/%s\n", b.Version, revision, b.Go, b.OS, b.Arch)
	return err
}
