package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sortition/decision"
	"sortition/internal/fileio"
	"sortition/pipeline"
	"sortition/schemas"
)

type explainCmd struct {
	Datafile       string   `required:"" placeholder:"FILE" help:"The project's datafile."`
	Flag           string   `required:"" placeholder:"KEY" help:"The flag to explain."`
	User           string   `required:"" placeholder:"ID" help:"The user's id."`
	Attributes     string   `placeholder:"JSON|@FILE" help:"The user's attributes, a JSON object, or the name of a file with one."`
	Segments       *string  `placeholder:"SEGMENT,…" help:"The segments the user is in; empty: known to be in none. Without it they are not known."`
	Forced         []string `sep:"none" placeholder:"FLAG[/RULE]=VARIATION" help:"A forced decision; may be given several times."`
	Options        []string `placeholder:"OPTION" help:"Decide options, such as EXCLUDE_VARIABLES."`
	JSON           bool     `name:"json" help:"Print JSON."`
	SkipValidation bool     `help:"Leave out the datafile's schema validation, as the SDKs' skip_json_validation does."`
}

// Help is shown by --help.
func (explainCmd) Help() string {
	return `Examples:

    processor explain --datafile d.json --flag checkout --user u-17 --attributes '{"plan":"pro","age":31}' --segments vip
    processor explain --datafile d.json --flag checkout --user u-17 --attributes @user.json --json
    processor explain --datafile d.json --flag checkout --user u-17 --forced checkout/checkout_test=control

It shows every rule on the way to the decision: its audience, condition by condition, with the values seen; hash and bucket, and the
traffic range that is hit; and the first condition that would have to change. It is the engine's own walk, so it can't be wrong about
it. A flag the datafile doesn't have is a decision too, with an error.
`
}

// Run explains.
func (c *explainCmd) Run(ctx context.Context, std stdio) error {
	options, err := parseOptions(c.Options)
	if err != nil {
		return usageError{err}
	}
	activity, err := c.activity()
	if err != nil {
		return usageError{err}
	}
	p, err := readProject(c.Datafile, c.SkipValidation)
	if err != nil {
		return err
	}
	var u decision.User
	u.Reset(p, c.User)
	for i := range activity.Attributes {
		u.SetAttribute(activity.Attributes[i].Key, pipeline.ValueOf(&activity.Attributes[i].Value))
	}
	if c.Segments != nil {
		u.SetSegments(splitList(*c.Segments))
	}
	for _, text := range c.Forced {
		if err := setForced(&u, text); err != nil {
			return usageError{err}
		}
	}
	e := p.Explain(ctx, &u, c.Flag, options, nil)
	if c.JSON {
		return writeJSON(std.out, e)
	}
	_, err = io.WriteString(std.out, renderExplanation(e, newSummary(std.out).ink))
	return err
}

// activity reads the attributes as those of an activity are read.
func (c *explainCmd) activity() (*schemas.Activity, error) {
	text := []byte(c.Attributes)
	if path, ok := strings.CutPrefix(c.Attributes, "@"); ok {
		var err error
		if text, err = fileio.ReadFile(path, maxLine); err != nil {
			return nil, fmt.Errorf("--attributes: %w", err)
		}
	}
	a := &schemas.Activity{}
	if len(text) == 0 {
		return a, nil
	}
	record := append([]byte(`{"user_id":"","attributes":`), text...)
	var d schemas.Decoder
	if err := d.Decode(append(record, '}'), a); err != nil {
		reject := rejectOf(err)
		return nil, fmt.Errorf("--attributes can't be used: %s: %s", reject.Code, reject.Detail)
	}
	if !json.Valid(text) { // what follows the object was read as other fields
		return nil, errors.New("--attributes must be one JSON object")
	}
	return a, nil
}

func splitList(text string) (list []string) {
	for item := range strings.SplitSeq(text, ",") {
		if item != "" {
			list = append(list, item)
		}
	}
	return list
}

// setForced reads FLAG[/RULE]=VARIATION.
func setForced(u *decision.User, text string) error {
	target, variation, ok := strings.Cut(text, "=")
	flag, rule, _ := strings.Cut(target, "/")
	if !ok || flag == "" || variation == "" {
		return fmt.Errorf("--forced: %q is not flag=variation or flag/rule=variation", text)
	}
	u.SetForcedDecision(flag, rule, variation)
	return nil
}
