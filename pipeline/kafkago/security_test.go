package kafkago

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sortition/internal/kafkatest"
	"sortition/pipeline"
)

// authority is a certificate authority in a directory of the test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB, name string) *authority {
	a := &authority{dir: t.TempDir()}
	a.key, a.cert, a.file, _ = a.issue(t, name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue signs a certificate (its own, for the authority itself) and writes it to
// files.
func (a *authority) issue(t testing.TB, name string, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile := filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return key, cert, certFile, keyFile
}

// Trap 23: Reader and Writer of kafka-go are secured in different places. Here
// one Connection serves data, metadata and the group, with every mechanism.
func TestTrap23OneConnectionSecuresEverything(t *testing.T) {
	ca := newAuthority(t, "ca")
	_, _, serverCert, serverKey := ca.issue(t, "broker", &x509.Certificate{DNSNames: []string{"kafka.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	_, _, clientCert, clientKey := ca.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	server, err := tls.LoadX509KeyPair(serverCert, serverKey)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	secure := &TLS{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey, ServerName: "kafka.test"}

	for _, mechanism := range []Mechanism{Plain, ScramSHA256, ScramSHA512} {
		t.Run(string(mechanism), func(t *testing.T) {
			c := kafkatest.Fake(t, []kafkatest.Topic{{Name: "in", Partitions: 2}}, kfake.EnableSASL(), kfake.Superuser(string(mechanism), "sortition", "s3cret"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}))
			b := &broker{addrs: c.Addrs(), fake: c}
			good := Connection{Brokers: c.Addrs(), TLS: secure, SASL: &SASL{Mechanism: mechanism, Username: "sortition", Password: "s3cret"}}
			p := b.producer(t, func(cfg *ProducerConfig) { cfg.Connection = good })
			require.NoError(t, p.Produce(t.Context(), []pipeline.Output{{Topic: "in", Value: []byte("v")}}))
			s := b.subscriber(t, "group", func(cfg *SubscriberConfig) { cfg.Connection = good })
			require.Equal(t, []string{"v"}, collect(t, subscribe(t, s, "in"), 1))
			require.NoError(t, s.Close())
			require.EqualValues(t, 1, s.Stats().Batches)

			refused := func(why string, bad Connection) {
				p := b.producer(t, func(cfg *ProducerConfig) {
					cfg.Connection = bad
					cfg.RetryTimeout = 300 * time.Millisecond
					cfg.Logger = nil
				})
				require.Error(t, p.Produce(t.Context(), []pipeline.Output{{Topic: "in", Value: []byte("v")}}), why)
			}
			wrong := good
			wrong.SASL = &SASL{Mechanism: mechanism, Username: "sortition", Password: "guess"}
			refused("wrong password", wrong)
			wrong = good
			wrong.TLS = &TLS{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey, ServerName: "other.test"}
			refused("wrong server name", wrong)
			wrong.TLS = &TLS{CAFile: newAuthority(t, "other").file, CertFile: clientCert, KeyFile: clientKey, ServerName: "kafka.test"}
			refused("unknown authority", wrong)
			wrong.TLS = &TLS{CAFile: ca.file, ServerName: "kafka.test"}
			refused("no client certificate", wrong)
			wrong.TLS = nil
			refused("no TLS", wrong)
		})
	}
}

func TestRefusedCredentialsAreToldAtOnce(t *testing.T) {
	c := kafkatest.Fake(t, []kafkatest.Topic{{Name: "in", Partitions: 1}}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	// kfake hangs up on a wrong password; Kafka says what is wrong.
	c.Kfake().ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.Kfake().KeepControl()
		res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		res.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return res, nil, true
	})
	connection := Connection{Brokers: c.Addrs(), SASL: &SASL{Mechanism: Plain, Username: "u", Password: "no"}}
	began := time.Now()
	s, err := NewSubscriber(SubscriberConfig{Group: "g", Connection: connection})
	require.NoError(t, err)
	_, err = s.Subscribe(t.Context(), "in")
	require.ErrorIs(t, err, kafka.SASLAuthenticationFailed)
	require.NoError(t, s.Close())
	p, err := NewProducer(ProducerConfig{Connection: connection})
	require.NoError(t, err)
	require.ErrorIs(t, p.Produce(t.Context(), []pipeline.Output{{Topic: "in"}}), kafka.SASLAuthenticationFailed)
	require.NoError(t, p.Close())
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestPasswordsAreNotPrinted(t *testing.T) {
	s := SASL{Mechanism: Plain, Username: "u", Password: "s3cret"}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%v", &s), s.LogValue().String(),
		fmt.Sprintf("%+v", Connection{SASL: &s})} {
		require.NotContains(t, text, "s3cret")
	}
}

func TestConnectionReportsAllFaults(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	require.NoError(t, os.WriteFile(junk, []byte("junk"), 0o600))
	_, err := Connection{TLS: &TLS{CAFile: junk, CertFile: "only.pem"}, SASL: &SASL{Mechanism: "KERBEROS"}}.open(nil, 0)
	for _, want := range []string{"no broker address", "no certificate in", "one of them is missing", `unknown SASL mechanism "KERBEROS"`} {
		require.ErrorContains(t, err, want)
	}
	_, err = Connection{Brokers: []string{"b:1"}, TLS: &TLS{CAFile: filepath.Join(dir, "missing.pem"), CertFile: junk, KeyFile: junk}}.open(nil, 0)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "load client certificate")
}

func TestSeveredWireRefusesToDial(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	l, err := Connection{Brokers: []string{listener.Addr().String()}}.open(nil, 0)
	require.NoError(t, err)
	conn, err := l.wire.dial(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	l.close()
	_, err = conn.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = l.wire.dial(t.Context(), "tcp", listener.Addr().String())
	require.ErrorIs(t, err, net.ErrClosed)
}
