package kafkago

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page of traps names tests that exist, and all that are named for a trap.
func TestTrapTable(t *testing.T) {
	root := filepath.Join("..", "..")
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]*)\(`)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(source), -1) {
			exists[m[1]] = true
		}
		return err
	}))
	require.Greater(t, len(exists), 300)

	page, err := os.ReadFile(filepath.Join(root, "docs", "kafka-traps.md"))
	require.NoError(t, err)
	rows := map[string]string{}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]*)`")
	for _, m := range named.FindAllStringSubmatch(string(page), -1) {
		require.True(t, exists[m[1]], "%s does not exist", m[1])
	}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !strings.HasPrefix(line, "| ") || id == "" {
			continue
		}
		require.Len(t, cells, 3, line)
		require.Empty(t, rows[id], "row %s stands twice", id)
		rows[id] = strings.TrimSpace(cells[2])
		require.True(t, strings.HasPrefix(rows[id], "cannot") || named.MatchString(rows[id]), "row %s has neither a test nor a reason", id)
	}
	want := 0
	for prefix, n := range map[string]int{"": 25, "T": 7, "W": 12} {
		for i := range n {
			require.NotEmpty(t, rows[prefix+strconv.Itoa(i+1)], "row %s%d is missing", prefix, i+1)
			want++
		}
	}
	require.Len(t, rows, want)

	ofTrap := regexp.MustCompile(`^TestTrap(W?)0*([0-9]+)`)
	for name := range exists {
		if m := ofTrap.FindStringSubmatch(name); m != nil {
			require.Contains(t, rows[m[1]+m[2]], "`"+name+"`")
		}
	}
}

// Trap 25: what kafka-go asks for is years old. The codecs' memory and SCRAM's
// checks have been mended since.
func TestTrap25CodecsAreNew(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	require.NoError(t, err)
	for module, least := range map[string][3]int{"github.com/klauspost/compress": {1, 20, 3}, "github.com/xdg-go/scram": {1, 4, 0}, "github.com/pierrec/lz4/v4": {4, 1, 22}} {
		m := regexp.MustCompile(regexp.QuoteMeta(module) + ` v(\d+)\.(\d+)\.(\d+)`).FindStringSubmatch(string(mod))
		require.NotNil(t, m, module)
		var have [3]int
		for i := range have {
			have[i], err = strconv.Atoi(m[i+1])
			require.NoError(t, err)
		}
		require.True(t, have[0] > least[0] || have[0] == least[0] && (have[1] > least[1] || have[1] == least[1] && have[2] >= least[2]),
			fmt.Sprint(module, " ", have, ", want ", least))
	}
}
