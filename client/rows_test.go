package client

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every row of pages.md has an example, whose output is checked, that says so.
func TestEveryRowHasAnExample(t *testing.T) {
	names, err := filepath.Glob("example*_test.go")
	require.NoError(t, err)
	tagged := map[string]bool{}
	example := regexp.MustCompile(`(?s)\(pages\.md ([^)]+)\)\nfunc Example\w*\(\) \{.*?\n\t// Output:`)
	row := regexp.MustCompile(`[IOU]-\d+`)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range example.FindAllSubmatch(text, -1) {
			for _, r := range row.FindAll(m[1], -1) {
				tagged[string(r)] = true
			}
		}
	}
	var rows []string
	for i := range 14 {
		rows = append(rows, fmt.Sprint("I-", i+1))
	}
	for i := range 10 {
		rows = append(rows, fmt.Sprint("O-", i+1), fmt.Sprint("U-", i+1))
	}
	for _, r := range rows {
		require.True(t, tagged[r], "no example for row %s", r)
	}
}
