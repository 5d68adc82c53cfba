package datafile

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks bounds the symbolic links followed on one path, as the system does.
const maxLinks = 40

// stepsOf returns the paths whose change can make an absolute path lead to another
// file: every symbolic link on the way, the file itself, and the first part that
// doesn't exist. Their folders are named without symbolic links.
func stepsOf(path string) map[string]bool {
	steps := map[string]bool{}
	at := string(filepath.Separator)
	rest := split(path)
	for links := 0; len(rest) > 0 && links <= maxLinks; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		here := filepath.Join(at, name)
		info, err := os.Lstat(here)
		switch {
		case err != nil:
			steps[here] = true
			return steps
		case info.Mode()&os.ModeSymlink == 0:
			if len(rest) == 0 {
				steps[here] = true
			}
			at = here
			continue
		}
		steps[here] = true
		links++
		target, err := os.Readlink(here)
		if err != nil {
			return steps
		}
		if filepath.IsAbs(target) {
			at = string(filepath.Separator)
		}
		rest = append(split(target), rest...)
	}
	return steps
}

func split(path string) []string {
	return strings.Split(filepath.Clean(path), string(filepath.Separator))
}
