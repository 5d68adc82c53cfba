package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"sortition/examples"
	"sortition/internal/emulator"
	"sortition/internal/fileio"
)

type emulatorCmd struct {
	Addr      string   `default:"127.0.0.1:8480" placeholder:"HOST:PORT" help:"Where to listen (${default}); port 0 takes any free one."`
	Datafile  string   `placeholder:"FILE" help:"The datafile to serve. Default: that of the sample shop."`
	SDKKey    string   `name:"sdk-key" placeholder:"KEY" help:"The SDK key to serve it under. Default: the datafile's own, or \"local\"."`
	Token     string   `placeholder:"TOKEN" help:"The access token of the authenticated datafile. Default: nobody has it."`
	TokenFile string   `placeholder:"FILE" help:"The same, from a file."`
	ODPHere   bool     `name:"odp-here" help:"Serve the datafile with its ODP integration pointed at this emulator."`
	Data      string   `placeholder:"DIR" help:"Keep what is received and set in this folder, and take it up again at the next start. Default: in memory only."`
	Seed      uint64   `default:"1" placeholder:"N" help:"Predictions and segments that nobody set come from it (${default}); 0: nobody is in a segment."`
	Fault     []string `sep:"none" placeholder:"JSON" help:"Something to go wrong, as for POST /admin/faults; repeatable."`
	URLs      string   `name:"urls" placeholder:"FILE" help:"Write the addresses as JSON to this file as soon as it listens."`
	JSON      bool     `name:"json" help:"Print the addresses as JSON."`
}

// Help is shown by --help.
func (emulatorCmd) Help() string {
	return `The local Optimizely cloud: datafiles, the event endpoint, ODP and predictions on one address, without an account or the
internet. Each event body is held against the validator; a page and an API tell what was received, and what is wrong with it.

Examples:

    processor emulator --datafile d.json --sdk-key KEY --token TOKEN
    processor emulator --addr 127.0.0.1:0 --data ./cloud --urls urls.json
    processor emulator --fault '{"route":"/v1/events","status":500,"fraction":0.5,"seed":7}'

    curl -X POST localhost:8480/admin/faults -d '{"route":"/v1/events","script":[500,500,204]}'
    curl -X PUT localhost:8480/admin/datafiles/KEY --data-binary @next.json
    curl localhost:8480/admin/counts

All calls of the API are listed at /admin/. It runs until Ctrl-C, and ends with exit code 0 then. It is for laptops and tests:
whoever reaches its address may do everything.
`
}

// options reads what the flags name, and reports all that is wrong with them.
func (c *emulatorCmd) options() (opts emulator.Options, raw []byte, faults []emulator.Fault, err error) {
	var wrong []error
	opts = emulator.Options{Token: c.Token, Seed: c.Seed, Dir: c.Data}
	if c.TokenFile != "" {
		text, err := os.ReadFile(c.TokenFile)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("--token-file: %w", err))
		case c.Token != "":
			wrong = append(wrong, errors.New("--token and --token-file: give one of them"))
		default:
			opts.Token = strings.TrimSpace(string(text))
		}
	}
	raw = examples.Datafile()
	if c.Datafile != "" {
		if raw, err = fileio.ReadFile(c.Datafile, maxDatafile); err != nil {
			wrong = append(wrong, fmt.Errorf("--datafile: %w", err))
		}
	}
	for _, text := range c.Fault {
		list, err := emulator.ParseFaults([]byte(text))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--fault: %w", err))
		}
		faults = append(faults, list...)
	}
	if err := errors.Join(wrong...); err != nil {
		return opts, nil, nil, usageError{err}
	}
	return opts, raw, faults, nil
}

// Run serves until the context ends.
func (c *emulatorCmd) Run(ctx context.Context, std stdio) error {
	opts, raw, faults, err := c.options()
	if err != nil {
		return err
	}
	opts.Logger = slog.New(slog.NewTextHandler(std.err, nil))
	e, err := emulator.New(opts)
	if err != nil {
		return err
	}
	s, err := emulator.Listen(e, c.Addr)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	if err := c.prepare(s, raw, faults, std); err != nil {
		// Run closes what was opened; with an ended context it does only that.
		ended, cancel := context.WithCancel(ctx)
		cancel()
		return errors.Join(err, s.Run(ended))
	}
	return s.Run(ctx)
}

// prepare sets what the flags ask for and says where it listens.
func (c *emulatorCmd) prepare(s *emulator.Server, raw []byte, faults []emulator.Fault, std stdio) (err error) {
	if c.ODPHere {
		if raw, err = emulator.PointODP(raw, s.URL()); err != nil {
			return err
		}
	}
	if err := s.SeedDatafile(c.SDKKey, raw); err != nil {
		return err
	}
	for _, f := range faults {
		if _, err := s.AddFault(f); err != nil {
			return err
		}
	}
	if c.URLs != "" {
		text, err := json.MarshalIndent(s.URLs(), "", "  ")
		if err != nil {
			return fmt.Errorf("write the addresses: %w", err)
		}
		out, err := fileio.Create(c.URLs, std.out)
		if err != nil {
			return err
		}
		defer out.Discard()
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
		if err := fileio.Publish(out); err != nil {
			return err
		}
	}
	return c.print(s.URLs(), std.out)
}

func (c *emulatorCmd) print(urls emulator.URLs, w io.Writer) error {
	if c.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(urls)
	}
	var text strings.Builder
	for _, line := range urls.Lines() {
		fmt.Fprintf(&text, "%-12s %s\n", line[0], line[1])
	}
	_, err := io.WriteString(w, text.String())
	return err
}
