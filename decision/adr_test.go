package decision

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testNames lists the test and fuzz functions of this package's files.
func testNames(t *testing.T) map[string]bool {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	names := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

// The table of differences names every rule of ours and every row, and only tests
// that exist. A row without a test says where it belongs.
func TestADRTable(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "docs", "adr", "0200-tests-of-differences.md"))
	require.NoError(t, err)
	names := testNames(t)
	quoted := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]*)`")
	seen := map[string]bool{}
	for _, line := range strings.Split(string(raw), "\n") {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		first, last := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[len(cells)-1])
		if last == "tests" {
			continue
		}
		tests := quoted.FindAllStringSubmatch(last, -1)
		if len(tests) == 0 {
			require.Equal(t, "–", last, line)
			require.Contains(t, line, "elsewhere", line)
		}
		for _, m := range tests {
			require.True(t, names[m[1]], "%s names %s, which doesn't exist", first, m[1])
		}
		require.False(t, seen[first], "%s stands twice", first)
		seen[first] = true
	}
	for prefix, n := range map[string]int{"DF-P": 14, "AU-P": 5, "BK-P": 1, "DC-P": 9, "EV-P": 8, "": 97} {
		for i := range n {
			require.True(t, seen[fmt.Sprintf("%s%d", prefix, i+1)], "%s%d is missing", prefix, i+1)
		}
	}
	for _, row := range []string{"23a", "79a", "79b"} {
		require.True(t, seen[row], row)
	}
}
