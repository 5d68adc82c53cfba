package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A running process, and what it has said.
type running struct {
	*process
	command *exec.Cmd
	ended   chan error // capacity 1: written once

	mu   sync.Mutex // guards said
	said bytes.Buffer
}

// Write keeps what the process says.
func (r *running) Write(text []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(text)
}

func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// run starts the processes in their order, each when those it waits for are healthy;
// waits until decisions are made and events arrive; and ends them, the last first.
func run(ctx context.Context, processes []*process, patience time.Duration) (err error) {
	var all []*running
	byName := map[string]*running{}
	defer func() {
		for _, r := range slices.Backward(all) {
			err = errors.Join(err, r.end(patience))
		}
		if err != nil {
			for _, r := range all {
				fmt.Fprintf(os.Stderr, "\n--- %s\n%s", r.name, r.log())
			}
			return
		}
		fmt.Println("all ended cleanly at SIGTERM")
	}()
	for _, p := range processes {
		r, err := start(p)
		if err != nil {
			return err
		}
		all, byName[p.name] = append(all, r), r
		fmt.Printf("started  %-10s %s\n", p.name, strings.Join(p.args[1:], " "))
		if p.health != nil {
			if err := r.await(ctx, patience, "its health check", func() error {
				return exec.CommandContext(ctx, p.health[0], p.health[1:]...).Run()
			}); err != nil {
				return err
			}
			fmt.Printf("healthy  %-10s %s\n", p.name, strings.Join(p.health[1:], " "))
		}
	}
	return flows(ctx, byName, patience)
}

// flows waits until the stream has made decisions, and the emulator has received events.
func flows(ctx context.Context, byName map[string]*running, patience time.Duration) error {
	stream, cloud := byName["processor"], byName["emulator"]
	if stream == nil || cloud == nil {
		return errors.New("there is no service processor, or no emulator")
	}
	const enough = 500
	var decided, events, odp float64
	err := stream.await(ctx, patience, "decisions", func() (err error) {
		decided, err = metric(ctx, "http://"+stream.ports["8080"]+"/metrics", "sortition_activities_decided_total")
		return atLeast(decided, enough, err)
	})
	if err != nil {
		return err
	}
	err = cloud.await(ctx, patience, "events", func() error {
		var counts struct {
			Visitors  float64          `json:"visitors"`
			ODPEvents float64          `json:"odp_events"`
			Problems  map[string]int64 `json:"problems"`
		}
		err := getJSON(ctx, "http://"+cloud.ports["8480"]+"/admin/counts", &counts)
		events, odp = counts.Visitors, counts.ODPEvents
		return errors.Join(atLeast(events, enough, err), atLeast(odp, 1, err))
	})
	if err == nil {
		fmt.Printf("flows    %.0f activities decided, %.0f events and %.0f ODP events at the emulator\n", decided, events, odp)
	}
	return err
}

func atLeast(n, enough float64, err error) error {
	if err == nil && n < enough {
		err = fmt.Errorf("%.0f of %.0f", n, enough)
	}
	return err
}

func start(p *process) (*running, error) {
	r := &running{process: p, ended: make(chan error, 1)}
	r.command = exec.Command(p.args[0], p.args[1:]...)
	r.command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, p.env...)
	r.command.Stdout, r.command.Stderr = r, r
	if err := r.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() { r.ended <- r.command.Wait() }() // end waits for it
	return r, nil
}

// await asks until there is no error; a process that ends meanwhile is one.
func (r *running) await(ctx context.Context, patience time.Duration, what string, ask func() error) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: waited %s for %s: %w", r.name, patience, what, err)
		}
		select {
		case <-tick.C:
		case ended := <-r.ended:
			r.ended <- ended
			return fmt.Errorf("%s ended while %s was waited for: %w", r.name, what, errors.Join(ended, errors.New("it should go on")))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end asks a process to end and waits for it; it must do so with exit code 0.
func (r *running) end(patience time.Duration) error {
	_ = r.command.Process.Signal(syscall.SIGTERM) // it may have ended, which shows below
	select {
	case err := <-r.ended:
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		return nil
	case <-time.After(patience):
		_ = r.command.Process.Kill()
		<-r.ended
		return fmt.Errorf("%s did not end within %s of SIGTERM", r.name, patience)
	}
}

func get(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("%s answered %s", address, answer.Status), answer.Body.Close())
	}
	return answer, err
}

func getJSON(ctx context.Context, address string, to any) error {
	answer, err := get(ctx, address)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return json.NewDecoder(answer.Body).Decode(to)
}

// metric reads a counter without labels, or the sum over its labels.
func metric(ctx context.Context, address, name string) (sum float64, err error) {
	answer, err := get(ctx, address)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	found := false
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, name); ok && rest != "" && (rest[0] == ' ' || rest[0] == '{') {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				return 0, err
			}
			sum, found = sum+value, true
		}
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}
