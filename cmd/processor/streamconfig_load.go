package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"sortition/internal/fileio"
)

const maxStreamConfig = 1 << 20

// loadStreamConfig reads a configuration file over the defaults. Its errors name
// line and column, and never show what stands there: that may be a password.
func loadStreamConfig(path string) (*streamConfig, error) {
	raw, err := fileio.ReadFile(path, maxStreamConfig)
	if err != nil {
		return nil, err
	}
	c := defaultStreamConfig()
	c.folder = filepath.Dir(path)
	if err := parseStreamConfig(raw, os.LookupEnv, c); err != nil {
		return nil, configFault(path, err)
	}
	return c, nil
}

// configFault lists what is wrong with a file, a fault a line.
func configFault(path string, err error) error {
	var all []string
	for _, text := range texts(err) {
		if text = withoutSecrets(inNamesOfFile(text)); !slices.Contains(all, text) { // whoever shares a connection finds what is wrong with it
			all = append(all, strings.ReplaceAll(text, "\n", "\n  "))
		}
	}
	return fmt.Errorf("configuration %s:\n  %s", path, strings.Join(all, "\n  "))
}

// parseStreamConfig reads text over the defaults in c. All faults are reported: what
// is wrong is taken out, and the rest read again. c then holds what could be read.
func parseStreamConfig(raw []byte, lookup func(string) (string, bool), c *streamConfig) error {
	_, err := parseStreamText(raw, lookup, c)
	return err
}

// parseStreamText is parseStreamConfig, and returns the text's tree too, if it has one.
// The error joins *faultAt, but for a text that is no YAML.
func parseStreamText(raw []byte, lookup func(string) (string, bool), c *streamConfig) (*configTree, error) {
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return nil, inPlace(err)
	}
	if len(file.Docs) > 1 {
		return nil, errors.New("holds more than one YAML document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil // the defaults will not do, but that is said better elsewhere
	}
	e := expander{lookup: lookup}
	tree := newConfigTree(e.expand(file.Docs[0].Body))
	var f faults
	for _, fault := range e.faults {
		f.add(fault)
		tree.takeOut(fault)
	}
	defaults := *c
	for {
		*c = defaults
		c.Handlers = slices.Clone(defaults.Handlers)
		err := yaml.NodeToValue(tree.root, c, yaml.Strict())
		if err == nil {
			break
		}
		fault := inPlace(err)
		f.add(fault)
		if !tree.takeOut(fault) {
			break
		}
	}
	return tree, errors.Join(f...)
}

var goTypes = regexp.MustCompile(`cannot unmarshal (\S+)(?: \{\})? into Go (?:struct field \S+|value) of type (\S+)`)

// inPlainWords takes Go's types out of a message.
func inPlainWords(message string) string {
	return goTypes.ReplaceAllStringFunc(message, func(found string) string {
		types := goTypes.FindStringSubmatch(found)
		return "found " + plainType(types[1]) + " where " + plainType(types[2]) + " belongs"
	})
}

func plainType(name string) string {
	switch {
	case name == "string":
		return "text"
	case name == "bool":
		return "true or false"
	case strings.HasPrefix(name, "map"):
		return "a mapping"
	case strings.HasPrefix(name, "["):
		return "a list"
	}
	return "a number"
}

// expander replaces ${NAME} and ${NAME:-default} in the values of a file, after it
// has been parsed: what a variable holds is text, and can't become YAML.
type expander struct {
	lookup func(string) (string, bool)
	faults []*faultAt
}

// expand returns the node to use in place of n.
func (e *expander) expand(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			v.Value = e.expand(v.Value)
		}
	case *ast.MappingValueNode:
		n.Value = e.expand(n.Value)
	case *ast.SequenceNode:
		for i := range n.Values {
			n.Values[i] = e.expand(n.Values[i])
		}
	case *ast.AnchorNode:
		n.Value = e.expand(n.Value)
	case *ast.TagNode:
		n.Value = e.expand(n.Value)
	case *ast.LiteralNode:
		n.Value.Value = e.text(n.Value.Value, n)
	case *ast.StringNode:
		before := n.Value
		n.Value = e.text(before, n)
		// A bare variable may be a switch. (Numbers are taken from text anyway, and
		// a password that looks like one must stay what it is.)
		if before != n.Value && (n.Value == "true" || n.Value == "false") {
			tk := n.Token.Clone()
			tk.Value, tk.Origin = n.Value, n.Value
			return ast.Bool(tk)
		}
	}
	return n
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// text expands one value. $${ stands for ${ itself.
func (e *expander) text(s string, at ast.Node) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			e.fault(at, "${ without }")
			return ""
		}
		name, fallback, hasFallback := strings.Cut(s[i+2:i+end], ":-")
		value, isSet := e.lookup(name)
		switch {
		case !variableName.MatchString(name):
			e.fault(at, "${...} must hold the name of an environment variable, as in ${NAME} or ${NAME:-default}")
		case isSet && (value != "" || !hasFallback):
			b.WriteString(value)
		case hasFallback:
			b.WriteString(fallback)
		default:
			e.fault(at, "environment variable "+name+" is not set; ${"+name+":-} would stand for nothing")
		}
		s = s[i+end+1:]
	}
}

func (e *expander) fault(at ast.Node, what string) {
	e.faults = append(e.faults, placed(at, what))
}

// A duration is written as 250ms, 30s or 5m.
type duration time.Duration

// UnmarshalYAML reads a duration.
func (d *duration) UnmarshalYAML(n ast.Node) error {
	if s, ok := n.(*ast.StringNode); ok {
		if v, err := time.ParseDuration(s.Value); err == nil {
			*d = duration(v)
			return nil
		}
	}
	return placed(n, "wants a duration such as 250ms, 30s or 5m")
}

// keysOrAll is "*" or a list of flag keys.
type keysOrAll struct {
	keys []string
	all  bool
}

// UnmarshalYAML reads either.
func (k *keysOrAll) UnmarshalYAML(n ast.Node) error {
	*k = keysOrAll{}
	switch n := n.(type) {
	case *ast.StringNode:
		if n.Value == "*" {
			k.all = true
			return nil
		}
	case *ast.SequenceNode:
		for _, v := range n.Values {
			key, ok := v.(*ast.StringNode)
			if !ok {
				return placed(v, "wants the key of a flag, as text")
			}
			k.keys = append(k.keys, key.Value)
		}
		return nil
	}
	return placed(n, `wants "*" or a list of flag keys`)
}

// A secret is text that is never shown.
type secret string

// UnmarshalYAML reads any plain value as it is written: a password of digits is
// not a number.
func (s *secret) UnmarshalYAML(n ast.Node) error {
	switch n := n.(type) {
	case *ast.StringNode:
		*s = secret(n.Value)
		return nil
	case *ast.LiteralNode:
		*s = secret(n.Value.Value)
		return nil
	case ast.ScalarNode:
		*s = secret(n.GetToken().Value)
		return nil
	}
	return placed(n, "wants text")
}

// String hides it.
func (secret) String() string { return "(secret)" }

// GoString hides it from %#v.
func (secret) GoString() string { return "(secret)" }

// readSecret returns a secret given in one of two ways: as it is, or in a file,
// whose last line feed doesn't belong to it.
func readSecret(name string, given secret, path string) (string, error) {
	if path == "" {
		return string(given), nil
	}
	if given != "" {
		return "", fmt.Errorf("%s and %s_file are both given", name, name)
	}
	raw, err := fileio.ReadFile(path, maxStreamConfig)
	if err != nil {
		return "", fmt.Errorf("%s_file: %w", name, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}
