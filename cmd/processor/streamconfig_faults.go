package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// faultAt is something wrong at a place of a configuration file. It never shows what
// stands there: that may be a password.
type faultAt struct {
	line, column int // from 1; 0: nowhere in particular
	text         string
	key          string // path of the value that was left out because of it, if one was
}

func (f *faultAt) Error() string {
	if f.line == 0 {
		return f.text
	}
	return fmt.Sprintf("[%d:%d] %s", f.line, f.column, f.text)
}

// placed is a fault at a node's line and column.
func placed(n ast.Node, what string) *faultAt {
	position := n.GetToken().Position
	return &faultAt{line: position.Line, column: position.Column, text: what}
}

// inPlace is the fault that the YAML library reports, in plain words.
func inPlace(err error) *faultAt {
	var at *faultAt
	if errors.As(err, &at) {
		return at
	}
	var positioned yaml.Error
	if errors.As(err, &positioned) && positioned.GetToken() != nil {
		position := positioned.GetToken().Position
		return &faultAt{line: position.Line, column: position.Column, text: inPlainWords(positioned.GetMessage())}
	}
	return &faultAt{text: inPlainWords(yaml.FormatError(err, false, false))}
}

// configTree is a configuration file as it was written, to find places by key and keys
// by place.
type configTree struct {
	root  ast.Node
	byKey map[string]*ast.MappingValueNode // by path: kafka.sasl.password, handlers[1]
	items map[string]ast.Node              // elements of lists
	taken []string                         // paths of what takeOut left out
}

func newConfigTree(root ast.Node) *configTree {
	t := &configTree{root: root, byKey: map[string]*ast.MappingValueNode{}, items: map[string]ast.Node{}}
	t.index("", root)
	return t
}

func (t *configTree) index(path string, n ast.Node) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			t.index(path, v)
		}
	case *ast.MappingValueNode:
		key := n.Key.GetToken().Value
		if path != "" {
			key = path + "." + key
		}
		t.byKey[key] = n
		t.index(key, n.Value)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			item := path + "[" + strconv.Itoa(i) + "]"
			t.items[item] = v
			t.index(item, v)
		}
	}
}

// takeOut leaves the innermost value out in which a fault is, and tells the fault its
// path. It reports whether there was one.
func (t *configTree) takeOut(f *faultAt) bool {
	path, isFound := t.remove("", t.root, f)
	if isFound {
		f.key = path
		t.taken = append(t.taken, path)
	}
	return isFound
}

// remove looks for the fault's place below a node, which it changes.
func (t *configTree) remove(path string, n ast.Node, f *faultAt) (string, bool) {
	mapping, ok := n.(*ast.MappingNode)
	if !ok {
		return "", false
	}
	for i, v := range mapping.Values {
		key := v.Key.GetToken().Value
		if path != "" {
			key = path + "." + key
		}
		if found, ok := t.remove(key, v.Value, f); ok {
			return found, true
		}
		if isAt(v.Key, f) || isWithin(v.Value, f) {
			mapping.Values = slices.Delete(mapping.Values, i, i+1)
			return key, true
		}
	}
	return "", false
}

func isAt(n ast.Node, f *faultAt) bool {
	position := n.GetToken().Position
	return position.Line == f.line && position.Column == f.column
}

// isWithin tells whether a fault is at a value, or at a part of it.
func isWithin(n ast.Node, f *faultAt) bool {
	if isAt(n, f) {
		return true
	}
	switch n := n.(type) {
	case *ast.SequenceNode:
		return slices.ContainsFunc(n.Values, func(v ast.Node) bool { return isWithin(v, f) })
	case *ast.MappingNode:
		return slices.ContainsFunc(n.Values, func(v *ast.MappingValueNode) bool { return isAt(v.Key, f) || isWithin(v.Value, f) })
	case *ast.TagNode:
		return isWithin(n.Value, f)
	case *ast.AnchorNode:
		return isWithin(n.Value, f)
	}
	return false
}

// hasTaken tells whether a value was left out, or one around it.
func (t *configTree) hasTaken(key string) bool {
	return slices.ContainsFunc(t.taken, func(taken string) bool { return key == taken || strings.HasPrefix(key, taken+".") })
}

// keyPath is the beginning of a fault's text that names a value of the file.
var keyPath = regexp.MustCompile(`^[a-z][a-z_]*(?:\.[a-z0-9_]+|\[\d+\])*`)

// locate gives a fault that names a key of the file its place: that of the key, or of
// the nearest one around it that is there.
func (t *configTree) locate(text string) *faultAt {
	f := &faultAt{text: text, key: keyPath.FindString(text)}
	for key := f.key; key != ""; key = outer(key) {
		if item, ok := t.items[key]; ok {
			position := item.GetToken().Position
			f.line, f.column = position.Line, position.Column
			return f
		}
		if n, ok := t.byKey[key]; ok {
			position := n.Key.GetToken().Position
			f.line, f.column = position.Line, position.Column
			return f
		}
	}
	return f
}

// outer is the path of what is around a value; "" around the first ones.
func outer(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

// texts takes an error of many faults apart: joined ones, and joined ones that were
// given a common beginning.
func texts(err error) []string {
	if err == nil {
		return nil
	}
	var all []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var whole []string
		for _, one := range joined.Unwrap() {
			whole = append(whole, one.Error())
			all = append(all, texts(one)...)
		}
		if strings.Join(whole, "\n") != err.Error() {
			return []string{err.Error()} // not errors.Join's
		}
		return all
	}
	inner := errors.Unwrap(err)
	if inner == nil {
		return []string{err.Error()}
	}
	beginning, isAtEnd := strings.CutSuffix(err.Error(), inner.Error())
	all = texts(inner)
	if !isAtEnd || len(all) < 2 {
		return []string{err.Error()}
	}
	for i := range all {
		all[i] = beginning + all[i]
	}
	return all
}

// The packages below name faults after their own fields; in front stands who was asked.
var (
	asked  = regexp.MustCompile(`^(?:(?:kafka (?:producer|subscriber|connection)|configure [a-z ]+|pipeline: stage [a-z-]+|pipeline): )+`)
	fields = strings.NewReplacer(
		"Topics.Activities", "topics.activities", "Topics.Decisions", "topics.decisions", "Topics.Events", "topics.events",
		"Topics.ODPEvents", "topics.odp_events", "Topics.DeadLetters", "topics.dead_letters",
		"EventVisitors", "events.batch_size", "EventBytes", "events.max_batch_bytes", "Stream is", "stream is", "Decide holds", "decide holds",
		"unknown compression", "producer.compression: unknown compression", "MaxRequestBytes", "producer.max_request_bytes",
		"MaxInFlightBytes", "producer.max_in_flight_bytes", "RetryTimeout", "producer.retry_timeout",
		"Group is", "kafka.group is", "StartAt", "kafka.start_at", "OnOutOfRange", "kafka.on_out_of_range",
		"MaxBatchRecords", "activities.max_batch_records", "CommitInterval", "activities.commit_interval",
		"no broker address given", "kafka.brokers: no address is given", "broker address ", "kafka.brokers: broker address ", "unknown SASL mechanism", "kafka.sasl.mechanism: unknown SASL mechanism",
		"read certificate authorities", "kafka.tls.ca_file: read certificate authorities",
		"client certificate and key go", "kafka.tls: client certificate and key go", "load client certificate", "kafka.tls.cert_file: load client certificate",
		"OAUTHBEARER needs", "kafka.sasl: OAUTHBEARER needs", "AWS_MSK_IAM:", "kafka.sasl: AWS_MSK_IAM:", "cmab: ", "",
	)
)

// inNamesOfFile is the text of a fault with the names that things have in the
// configuration file.
func inNamesOfFile(text string) string { return fields.Replace(asked.ReplaceAllString(text, "")) }
