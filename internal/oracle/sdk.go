package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

//go:embed python/answer.py
var program string

// An sdk is a running Python process that answers batches, one at a time.
type sdk struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs bytes.Buffer // to be read after the end only
	end  error
	done bool
}

// sdkVersion asks which SDK the interpreter finds.
func sdkVersion(ctx context.Context, python string) (string, error) {
	out, err := exec.CommandContext(ctx, python, "-c", program, "--check").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("start the Python SDK with %s (make oracle installs it): %w: %s", python, err, bytes.TrimSpace(out))
	}
	return strings.TrimSpace(string(out)), nil
}

// startSDK starts a process, which ends with close or with ctx.
func startSDK(ctx context.Context, python string) (*sdk, error) {
	s := &sdk{cmd: exec.CommandContext(ctx, python, "-c", program)}
	s.cmd.Stderr = &s.errs
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the Python SDK: %w", err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the Python SDK: %w", err)
	}
	s.out = bufio.NewReaderSize(out, 1<<20)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the Python SDK: %w", err)
	}
	return s, nil
}

// refusedError says that the SDK does not take a datafile.
type refusedError struct{ reason string }

func (e refusedError) Error() string { return "the SDK refuses the datafile: " + e.reason }

// ask has a batch answered; the error is a refusedError or means that the process is lost.
func (s *sdk) ask(b *batch) ([]answer, error) {
	line, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode a batch: %w", err)
	}
	// The process reads the whole line before it writes, and writes the whole answer before it reads again.
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return nil, s.lost("write to the Python SDK", err)
	}
	line, err = s.out.ReadBytes('\n')
	if err != nil {
		return nil, s.lost("read from the Python SDK", err)
	}
	var reply struct {
		Refused string   `json:"refused"`
		Answers []answer `json:"answers"`
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, fmt.Errorf("decode an answer of the Python SDK: %w", err)
	}
	if reply.Refused != "" {
		return nil, refusedError{reply.Refused}
	}
	if len(reply.Answers) != len(b.Cases) {
		return nil, fmt.Errorf("the Python SDK gave %d answers to %d cases", len(reply.Answers), len(b.Cases))
	}
	return reply.Answers, nil
}

func (s *sdk) lost(what string, err error) error {
	return fmt.Errorf("%s: %w (%w): %s", what, err, s.close(), bytes.TrimSpace(s.errs.Bytes()))
}

// close ends the process and waits for it.
func (s *sdk) close() error {
	if !s.done {
		s.done = true
		s.end = errors.Join(s.in.Close(), s.cmd.Wait())
	}
	return s.end
}
