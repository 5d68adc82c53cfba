package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads the file as docker compose does: schema, interpolation, consistency. What
// the specification allows and we don't want is an error too.
func load(ctx context.Context, root string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithWorkingDirectory(root))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("docker-compose.yml: %w", err)
	}
	var faults []error
	for name, s := range project.Services {
		for _, err := range judge(root, &s) {
			faults = append(faults, fmt.Errorf("docker-compose.yml: service %s: %w", name, err))
		}
	}
	return project, errors.Join(faults...)
}

var pinned = regexp.MustCompile(`:[^:/]*\d[^:/]*$`)

func judge(root string, s *types.ServiceConfig) (faults []error) {
	if s.Build == nil && !pinned.MatchString(s.Image) {
		faults = append(faults, fmt.Errorf("image %q has no version", s.Image))
	}
	if s.Build != nil {
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			faults = append(faults, err)
		}
	}
	for _, v := range s.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		if _, err := os.Stat(v.Source); err != nil {
			faults = append(faults, err)
		}
		if !v.ReadOnly {
			faults = append(faults, fmt.Errorf("%s is mounted for writing", v.Target))
		}
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			faults = append(faults, fmt.Errorf("port %s is open to the network, not to this machine only", p.Published))
		}
	}
	// The broker of the stack is the one that tests run on.
	if strings.HasPrefix(s.Image, "apache/kafka:") {
		pom, err := os.ReadFile(filepath.Join(root, "internal", "kafkatest", "pom.xml"))
		version := strings.TrimPrefix(s.Image, "apache/kafka:")
		if err != nil {
			faults = append(faults, err)
		} else if !strings.Contains(string(pom), "<kafka.version>"+version+"<") {
			faults = append(faults, fmt.Errorf("%s isn't the version that tests run on (internal/kafkatest/pom.xml)", s.Image))
		}
	}
	return faults
}
