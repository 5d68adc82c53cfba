package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// A process is a service as it runs without containers.
type process struct {
	name   string
	args   []string // program first
	env    []string
	health []string // the command of the service's health check; nil: none
	after  []string // services that must be healthy before
	ports  map[string]string
}

var (
	listening = regexp.MustCompile(`\b0\.0\.0\.0:(\d+)\b`)
	loopback  = regexp.MustCompile(`\b127\.0\.0\.1:(\d+)\b`)
	named     = regexp.MustCompile(`\b([a-z][a-z0-9-]*):(\d+)\b`)
)

// plan makes a process of every service that is built here, in an order in which they
// can start. Their ports are free ones of loopback, and in commands and environment
// addresses are replaced by those; kafka stands for all ports of the service kafka.
func plan(project *types.Project, processor, kafka string) ([]*process, error) {
	addresses := map[string]map[string]string{} // by service and port
	own := map[string]bool{}
	for name, s := range project.Services {
		own[name] = s.Build != nil
		addresses[name] = map[string]string{}
	}
	address := func(service, port string) (string, error) {
		if !own[service] {
			return kafka, nil
		}
		if known, ok := addresses[service][port]; ok {
			return known, nil
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addresses[service][port] = l.Addr().String()
		return addresses[service][port], l.Close()
	}
	var faults []error
	made := map[string]*process{}
	for name, s := range project.Services {
		if s.Build == nil {
			if name != "kafka" {
				faults = append(faults, fmt.Errorf("service %s: only kafka may be somebody else's", name))
			}
			continue
		}
		replace := func(text string) string {
			for _, v := range s.Volumes {
				text = strings.ReplaceAll(text, v.Target, v.Source)
			}
			at := func(pattern *regexp.Regexp, of func(m []string) (service, port string, ok bool)) {
				text = pattern.ReplaceAllStringFunc(text, func(found string) string {
					service, port, ok := of(pattern.FindStringSubmatch(found))
					if !ok {
						return found
					}
					a, err := address(service, port)
					faults = append(faults, err)
					return a
				})
			}
			// What a service listens at, and what it asks itself, is its own port.
			itself := func(m []string) (string, string, bool) { return name, m[1], true }
			at(loopback, itself)
			at(listening, itself)
			at(named, func(m []string) (string, string, bool) { _, ok := own[m[1]]; return m[1], m[2], ok })
			return text
		}
		p := &process{name: name, args: []string{processor}, ports: addresses[name]}
		for _, arg := range s.Command {
			p.args = append(p.args, replace(arg))
		}
		for key, value := range s.Environment {
			if value != nil {
				p.env = append(p.env, key+"="+replace(*value))
			}
		}
		if s.HealthCheck != nil && len(s.HealthCheck.Test) > 2 {
			// CMD, the program in the image, its arguments.
			p.health = []string{processor}
			for _, arg := range s.HealthCheck.Test[2:] {
				p.health = append(p.health, replace(arg))
			}
		}
		for other := range s.DependsOn {
			if own[other] {
				p.after = append(p.after, other)
			}
		}
		made[name] = p
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return inOrder(made)
}

// inOrder puts processes behind those they wait for.
func inOrder(made map[string]*process) ([]*process, error) {
	var order []*process
	var placed []string
	for len(order) < len(made) {
		before := len(order)
		for _, name := range slices.Sorted(maps.Keys(made)) {
			p := made[name]
			isReady := !slices.ContainsFunc(p.after, func(other string) bool { return !slices.Contains(placed, other) })
			if isReady && !slices.Contains(placed, name) {
				order, placed = append(order, p), append(placed, name)
			}
		}
		if len(order) == before {
			return nil, errors.New("services wait for each other")
		}
	}
	return order, nil
}
