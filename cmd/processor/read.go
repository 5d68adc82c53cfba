package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"

	"sortition/decision"
	"sortition/internal/fileio"
	"sortition/schemas"
)

// The largest files read as a whole.
const (
	maxDatafile = 512 << 20
	maxMapping  = 1 << 20
)

// readProject reads and compiles a datafile.
func readProject(path string, skipValidation bool) (*decision.Project, error) {
	raw, err := fileio.ReadFile(path, maxDatafile)
	if err != nil {
		return nil, err
	}
	p, err := decision.Compile(raw, compileOptions(skipValidation)...)
	var faulty *decision.DatafileError
	if errors.As(err, &faulty) {
		return nil, fmt.Errorf("datafile %s can't be used:\n  %s", path, strings.Join(faultLines(faulty.Faults), "\n  "))
	}
	return p, err
}

func compileOptions(skipValidation bool) (options []decision.CompileOption) {
	if skipValidation {
		options = append(options, decision.SkipSchemaValidation())
	}
	return options
}

func faultLines(faults []decision.Fault) []string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.String()
	}
	return lines
}

// readMapping reads and compiles a mapping of activities.
func readMapping(path string) (*schemas.Mapping, error) {
	raw, err := fileio.ReadFile(path, maxMapping)
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := yaml.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("mapping %s is not a YAML object: %s", path, yaml.FormatError(err, false, true))
	}
	m, err := schemas.CompileMapping(spec)
	var faulty *schemas.MappingError
	if errors.As(err, &faulty) {
		lines := make([]string, len(faulty.Faults))
		for i, f := range faulty.Faults {
			lines[i] = f.Field + ": " + f.Message
		}
		return nil, fmt.Errorf("mapping %s can't be used:\n  %s", path, strings.Join(lines, "\n  "))
	}
	return m, err
}
