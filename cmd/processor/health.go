package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthCmd asks a process how it is, for places without curl: the image holds the
// processor and nothing else.
type healthCmd struct {
	URL     string        `arg:"" name:"url" default:"http://127.0.0.1:8080/readyz" help:"What to ask (${default})."`
	Timeout time.Duration `default:"3s" placeholder:"TIME" help:"How long the answer may take (${default})."`
}

// Help is shown by --help.
func (healthCmd) Help() string {
	return `Examples:

    processor health
    processor health http://127.0.0.1:8480/health

For the health check of a container. Exit code 0 if the answer is 200, else 1, with what was answered: /readyz says what the stream
still waits for. The address is that of http.listen in the configuration.
`
}

// Run asks once.
func (c *healthCmd) Run(ctx context.Context, std stdio) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, http.NoBody)
	if err != nil {
		return usageError{err}
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil {
		return err
	}
	fmt.Fprintln(std.out, strings.TrimSpace(string(text)))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.URL, answer.Status)
	}
	return nil
}
