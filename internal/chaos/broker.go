package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"sortition/internal/kafkatest"
)

// script starts, restarts and stops real brokers; from the repository's root.
const script = "internal/kafkatest/kafka.sh"

// A broker is the cluster of a run.
type broker struct {
	addrs      []string
	fake       *kafkatest.Cluster // nil: a real one
	isOurs     bool               // to be stopped in the end
	canRestart bool
}

// openBroker takes the real Kafka that is there already, or starts one.
func openBroker(ctx context.Context, fake bool) (*broker, error) {
	if fake {
		cluster, err := kafkatest.Start(nil, kfake.GroupMinSessionTimeout(time.Second))
		if err != nil {
			return nil, err
		}
		return &broker{addrs: cluster.Addrs(), fake: cluster}, nil
	}
	b := &broker{}
	running, err := kafkaScript(ctx, "status")
	isRunning := err == nil
	if given := os.Getenv(kafkatest.EnvKafka); given != "" {
		b.addrs = strings.Split(given, ",")
		b.canRestart = isRunning && running == given
		return b, nil
	}
	if !isRunning {
		if running, err = kafkaScript(ctx, "start"); err != nil {
			return nil, err
		}
		b.isOurs = true
	}
	b.addrs, b.canRestart = strings.Split(running, ","), true
	return b, nil
}

// restart stops the broker, with SIGKILL if hard, and starts it again on its data.
func (b *broker) restart(ctx context.Context, hard bool) error {
	args := []string{"restart"}
	if hard {
		args = append(args, "hard")
	}
	_, err := kafkaScript(ctx, args...)
	return err
}

func (b *broker) close() {
	switch {
	case b.fake != nil:
		b.fake.Close()
	case b.isOurs:
		_, _ = kafkaScript(context.Background(), "stop") // what it has to say is in its log
	}
}

// kafkaScript returns the address that the script prints.
func kafkaScript(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, script, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", script, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	_, address, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
	return address, nil
}
