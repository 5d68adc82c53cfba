package kafkago

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
)

// maxToken bounds a token; a broker takes no larger request before it knows who
// is asking.
const maxToken = 256 << 10

// bearer is the mechanism OAUTHBEARER. It fetches a token for every connection,
// and keeps none. No error of its own says anything about a token but that it
// cannot be used.
//
// kafka-go does not authenticate again on a connection (KIP-368): when a token has
// run out the broker hangs up, which is repeated like any lost connection. On the
// coordinator's connection that costs a rebalance, so tokens should last.
//
// Source: RFC 7628 section 3; KIP-255, KIP-342.
type bearer struct {
	token      func(ctx context.Context) ([]byte, error)
	extensions []string // key=value, sorted
}

var _ sasl.Mechanism = (*bearer)(nil)

// The grammars of what goes between the separators.
var (
	tokenText      = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)
	extensionKey   = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[\x21-\x7e \t\r\n]*$`)
)

func (s *SASL) bearer() (sasl.Mechanism, error) {
	var faults []error
	b := &bearer{}
	switch {
	case (s.TokenFile == "") == (len(s.TokenCommand) == 0):
		faults = append(faults, fmt.Errorf("%s needs a token file or a token command, and not both", OAuthBearer))
	case s.TokenFile != "":
		file := s.TokenFile
		b.token = func(context.Context) ([]byte, error) { return os.ReadFile(file) }
	default:
		command, timeout := slices.Clone(s.TokenCommand), s.TokenTimeout
		if timeout == 0 {
			timeout = 4 * time.Second
		}
		b.token = func(ctx context.Context) ([]byte, error) { return runForToken(ctx, command, timeout) }
	}
	if s.TokenTimeout < 0 {
		faults = append(faults, errors.New("TokenTimeout cannot be negative"))
	}
	for _, k := range slices.Sorted(maps.Keys(s.TokenExtensions)) {
		v := s.TokenExtensions[k]
		if !extensionKey.MatchString(k) || k == "auth" || !extensionValue.MatchString(v) {
			faults = append(faults, fmt.Errorf("the token extension %q cannot be sent", k))
		}
		b.extensions = append(b.extensions, k+"="+v)
	}
	return b, errors.Join(faults...)
}

// runForToken runs command and returns what it prints. Its error says how the
// command ended, and nothing of what it printed.
func runForToken(ctx context.Context, command []string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// Whoever inherited the pipe from a command that was ended is not waited for.
	cmd.WaitDelay = 100 * time.Millisecond
	out := &limited{}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("run %s: %w", command[0], err)
	}
	return out.b.Bytes(), nil
}

// limited refuses to grow without bound. The buffer is not embedded: io.Copy would
// find its ReadFrom and go past Write.
type limited struct{ b bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxToken {
		return 0, errors.New("far too much output for a token")
	}
	return l.b.Write(p)
}

func (*bearer) Name() string { return string(OAuthBearer) }

// Start fetches a token for one connection.
func (b *bearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	raw, err := b.token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("get an %s token: %w", OAuthBearer, err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) > maxToken || !tokenText.MatchString(token) {
		return nil, nil, fmt.Errorf("get an %s token: what was given is no token", OAuthBearer)
	}
	first := "n,,\x01auth=Bearer " + token + "\x01"
	for _, e := range b.extensions {
		first += e + "\x01"
	}
	return &bearerSession{}, []byte(first + "\x01"), nil
}

// bearerSession is one connection's exchange.
type bearerSession struct{ refused bool }

// Next ends the exchange. A broker that refuses says why, is told that this was
// understood, and then fails the authentication; its reason is not passed on, for
// it is free to quote the token.
func (s *bearerSession) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	switch {
	case len(challenge) == 0:
		return true, nil, nil
	case s.refused:
		return false, nil, fmt.Errorf("%s: the broker went on after refusing the token", OAuthBearer)
	default:
		s.refused = true
		return false, []byte{1}, nil
	}
}
