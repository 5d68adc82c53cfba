package datafile

import (
	"crypto/hmac"
	"crypto/sha1" // the sender signs with it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
)

const (
	// WebhookPath is where messages are expected by convention.
	WebhookPath = "/webhooks/optimizely"

	signatureHeader   = "X-Hub-Signature"
	signaturePrefix   = "sha1="
	eventUpdated      = "project.datafile_updated"
	maxWebhookMessage = 1 << 20
)

// A Refresher fetches its datafile soon; see [Poller.Refresh].
type Refresher interface{ Refresh(revision string) }

// WebhookConfig says whose messages are believed and who is told.
type WebhookConfig struct {
	Projects []WebhookProject
	// Refreshers by SDK key, which is compared exactly. A project's key without one
	// is passed over.
	Refreshers map[string]Refresher
	Logger     *slog.Logger // nil: nobody
}

// A WebhookProject may announce datafiles.
type WebhookProject struct {
	ID                 string   // the project id, digits
	SDKKeys            []string // whose datafiles may have changed
	Secret             Secret   // signs the messages
	SkipSignatureCheck bool     // believe anybody who can reach the handler
}

// A Webhook receives Optimizely's message that a datafile has changed. It is an
// [http.Handler] that answers as Optimizely Agent does:
//
//	204  a refresh is on its way, or the project or the event is not ours
//	400  the message is no JSON object, or is not signed by its project
//
// and, before looking at the message, 405 (not POST), 413 (over 1 MiB) and 415
// (not JSON). The signature is checked first; a message that nobody known has
// signed is read only to choose between 400 and 204, and has no effect. The
// message triggers fetches and is the source of nothing else but the revision to
// wait for. Safe for concurrent use. Source: config.md section 8, CF-23, CF-P5.
type Webhook struct {
	projects   map[string]*WebhookProject
	refreshers map[string]Refresher
	logger     *slog.Logger
	counts     [numVerdicts]atomic.Uint64
}

var _ http.Handler = (*Webhook)(nil)

// NewWebhook checks the configuration. A project needs an id and, unless its
// signature isn't checked, a secret.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	w := &Webhook{projects: make(map[string]*WebhookProject, len(c.Projects)), refreshers: c.Refreshers, logger: c.Logger}
	if w.logger == nil {
		w.logger = slog.New(slog.DiscardHandler)
	}
	var faults []error
	for i := range c.Projects {
		p := c.Projects[i]
		switch {
		case p.ID == "":
			faults = append(faults, fmt.Errorf("webhook: project %d has no id", i))
		case w.projects[p.ID] != nil:
			faults = append(faults, fmt.Errorf("webhook: project %s is configured twice", p.ID))
		case p.Secret == "" && !p.SkipSignatureCheck:
			faults = append(faults, fmt.Errorf("webhook: project %s has no secret to check signatures with", p.ID))
		}
		w.projects[p.ID] = &p
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return w, nil
}

// A verdict is what became of a message.
type verdict int

const (
	verdictRefresh verdict = iota
	verdictUnknownProject
	verdictUnknownEvent
	verdictUnreadable
	verdictUnsigned
	numVerdicts
)

var verdictNames = [numVerdicts]string{"refresh", "unknown_project", "unknown_event", "unreadable", "bad_signature"}

// Counts is the number of messages by what became of them: "refresh",
// "unknown_project", "unknown_event", "unreadable", "bad_signature".
func (w *Webhook) Counts() map[string]uint64 {
	counts := make(map[string]uint64, numVerdicts)
	for i, name := range verdictNames {
		counts[name] = w.counts[i].Load()
	}
	return counts
}

// ServeHTTP receives one message.
func (w *Webhook) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	if in.Method != http.MethodPost {
		out.Header().Set("Allow", http.MethodPost)
		http.Error(out, "only POST", http.StatusMethodNotAllowed)
		return
	}
	if kind, _, err := mime.ParseMediaType(in.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(out, "only application/json", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(out, in.Body, maxWebhookMessage))
	if err != nil {
		status, text := http.StatusBadRequest, "the message could not be read"
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status, text = http.StatusRequestEntityTooLarge, "the message is too large"
		}
		http.Error(out, text, status)
		return
	}
	v := w.receive(body, in.Header.Get(signatureHeader))
	w.counts[v].Add(1)
	switch v {
	case verdictUnreadable:
		http.Error(out, "the message is not a JSON object of the expected shape", http.StatusBadRequest)
	case verdictUnsigned:
		http.Error(out, "the signature is missing or wrong", http.StatusBadRequest)
	default:
		out.WriteHeader(http.StatusNoContent)
	}
}

func (w *Webhook) receive(body []byte, signature string) verdict {
	signers := w.signers(body, signature)
	m, err := parseMessage(body)
	if err != nil {
		w.logger.Warn("webhook message refused", slog.String("reason", verdictNames[verdictUnreadable]))
		return verdictUnreadable
	}
	p := w.projects[m.project]
	switch {
	case p == nil:
		return verdictUnknownProject
	case !signers[p.ID]:
		w.logger.Warn("webhook message refused", slog.String("reason", verdictNames[verdictUnsigned]), slog.String("project_id", p.ID))
		return verdictUnsigned
	case m.event != eventUpdated:
		return verdictUnknownEvent
	}
	for _, key := range p.SDKKeys {
		if r := w.refreshers[key]; r != nil {
			r.Refresh(m.revision)
		}
	}
	w.logger.Info("webhook announces a datafile", slog.String("project_id", p.ID), slog.String("revision", m.revision))
	return verdictRefresh
}

// signers returns the projects that may have sent the message: those whose secret
// signs it, and those whose signature isn't checked.
func (w *Webhook) signers(body []byte, signature string) map[string]bool {
	text, hasPrefix := strings.CutPrefix(signature, signaturePrefix)
	given, err := hex.DecodeString(text)
	isUsable := hasPrefix && err == nil
	found := map[string]bool{}
	for id, p := range w.projects {
		if p.SkipSignatureCheck {
			found[id] = true
			continue
		}
		mac := hmac.New(sha1.New, []byte(p.Secret))
		mac.Write(body)
		if isUsable && hmac.Equal(mac.Sum(nil), given) { // in constant time
			found[id] = true
		}
	}
	return found
}

// A message is what is used of the JSON sent.
type message struct{ project, event, revision string }

func parseMessage(body []byte) (message, error) {
	var wire struct {
		ProjectID *number `json:"project_id"`
		Event     string  `json:"event"`
		Data      struct {
			Revision number `json:"revision"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return message{}, err
	}
	if wire.ProjectID == nil {
		return message{}, errors.New("project_id is missing")
	}
	return message{string(*wire.ProjectID), wire.Event, string(wire.Data.Revision)}, nil
}

// A number is the text of a JSON number, or of a string.
type number string

func (n *number) UnmarshalJSON(data []byte) error {
	var text string
	if data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*n = number(text)
		return nil
	}
	var literal json.Number
	if err := json.Unmarshal(data, &literal); err != nil {
		return err
	}
	*n = number(literal)
	return nil
}
