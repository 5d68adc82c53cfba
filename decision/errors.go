package decision

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnsupportedVersion is wrapped by the error of [Compile] when the datafile's
// version is none of "2", "3" and "4". Source: datafile.md DF-3, DF-8.
var ErrUnsupportedVersion = errors.New("unsupported datafile version")

// A Fault is one thing wrong, or odd, in a datafile.
type Fault struct {
	Path    string `json:"path"`    // JSON path, "$" is the whole file: $.experiments[3].trafficAllocation[0].endOfRange
	Message string `json:"message"` // what is wrong and what was expected
}

func (f Fault) String() string { return f.Path + ": " + f.Message }

// A DatafileError reports every fault found in a datafile that can't be used.
type DatafileError struct {
	Faults  []Fault // at least one
	version bool
}

// Error names the first faults and counts the rest.
func (e *DatafileError) Error() string {
	const shown = 3
	var b strings.Builder
	b.WriteString("invalid datafile: ")
	for i, f := range e.Faults {
		if i == shown {
			fmt.Fprintf(&b, " (and %d more)", len(e.Faults)-shown)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// Is makes errors.Is(err, ErrUnsupportedVersion) true for a wrong version.
func (e *DatafileError) Is(target error) bool { return target == ErrUnsupportedVersion && e.version }
