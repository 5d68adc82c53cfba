package kafkago

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// TLS says how connections are encrypted. The zero value verifies brokers
// against the system's roots and presents no certificate.
type TLS struct {
	// CAFile is a PEM file of the authorities that may sign a broker's
	// certificate. Empty: the system's.
	CAFile string
	// CertFile and KeyFile are the client's certificate and key, PEM. Both or
	// neither.
	CertFile string
	KeyFile  string
	// ServerName is the name brokers' certificates must carry. Empty: the host
	// part of the address that is dialled.
	ServerName string
}

// Mechanism is how a client proves who it is.
type Mechanism string

// The mechanisms of [SASL].
const (
	Plain       Mechanism = "PLAIN" // sends the password itself: only over TLS
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
	OAuthBearer Mechanism = "OAUTHBEARER" // sends the token itself: only over TLS
	MSKIAM      Mechanism = "AWS_MSK_IAM" // Amazon's managed Kafka, which wants TLS
)

// SASL holds credentials, or says where they are. It prints and logs without them.
type SASL struct {
	Mechanism Mechanism

	// Username and Password are for PLAIN and SCRAM; both are required then.
	Username string
	Password string

	// TokenFile or TokenCommand, one of them, are for OAUTHBEARER. A file is read,
	// or a command (a program and its arguments, no shell) run, for every
	// connection that is opened; what it holds or prints is the token, blanks
	// around it left out. So a token can be renewed beside a running program.
	TokenFile    string
	TokenCommand []string
	// TokenTimeout bounds the command. Default 4 s; DialTimeout bounds it too.
	TokenTimeout time.Duration
	// TokenExtensions are what some clusters want to know beside the token, for
	// instance logicalCluster. (KIP-342)
	TokenExtensions map[string]string

	// Region is for AWS_MSK_IAM. Default: that of the environment. The credentials
	// come from where AWS programs find them: environment, shared files, web
	// identity, container, instance.
	Region string
}

// String leaves the credentials out.
func (s SASL) String() string {
	if s.Username == "" {
		return string(s.Mechanism)
	}
	return string(s.Mechanism) + " as " + s.Username
}

// GoString leaves the credentials out of %#v as well.
func (s SASL) GoString() string { return "kafkago.SASL{" + s.String() + "}" }

// LogValue leaves the credentials out.
func (s SASL) LogValue() slog.Value { return slog.StringValue(s.String()) }

// config reads the files and returns what every connection to the cluster
// shares. All faults are reported together.
func (t *TLS) config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	var faults []error
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			faults = append(faults, fmt.Errorf("read certificate authorities: %w", err))
		} else if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			faults = append(faults, fmt.Errorf("read certificate authorities: no certificate in %s", t.CAFile))
		}
	}
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		faults = append(faults, errors.New("client certificate and key go together: one of them is missing"))
	case t.CertFile != "":
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			faults = append(faults, fmt.Errorf("load client certificate: %w", err))
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return c, nil
}

// mechanism returns kafka-go's form of the credentials. It reads no token yet.
func (s *SASL) mechanism() (sasl.Mechanism, error) {
	if s == nil {
		return nil, nil
	}
	switch s.Mechanism {
	case Plain, ScramSHA256, ScramSHA512:
		if s.Username == "" || s.Password == "" {
			return nil, fmt.Errorf("%s needs a user name and a password", s.Mechanism)
		}
	case OAuthBearer:
		return s.bearer()
	case MSKIAM:
		return s.mskIAM()
	default:
		return nil, fmt.Errorf("unknown SASL mechanism %q (known: %s, %s, %s, %s, %s)", s.Mechanism, Plain, ScramSHA256, ScramSHA512, OAuthBearer, MSKIAM)
	}
	if s.Mechanism == Plain {
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	}
	algorithm := scram.SHA256
	if s.Mechanism == ScramSHA512 {
		algorithm = scram.SHA512
	}
	m, err := scram.Mechanism(algorithm, s.Username, s.Password)
	if err != nil {
		// The library's error may quote what it was given.
		return nil, fmt.Errorf("prepare %s: the user name or password cannot be used (SASLprep)", s.Mechanism)
	}
	return m, nil
}
