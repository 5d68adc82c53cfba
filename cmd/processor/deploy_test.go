package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every configuration of deploy/ is one that check -c finds nothing wrong with, given
// its environment and secrets.
func TestDeployConfigurations(t *testing.T) {
	secrets := t.TempDir()
	for _, name := range []string{"sdk-key", "odp-key", "kafka-password", "kafka-token", "redis-password", "datafile-token", "webhook-secret"} {
		require.NoError(t, os.WriteFile(filepath.Join(secrets, name), []byte("a-secret\n"), 0o600))
	}
	for name, value := range map[string]string{
		"SECRETS": secrets, "STATE": t.TempDir(), "KAFKA_BROKERS": "kafka-1:9092", "KAFKA_USERNAME": "me", "AWS_REGION": "eu-west-1",
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "PROJECT_ID": "20700000000",
		"CLOUD": "http://emulator:8480", "LISTEN": "0.0.0.0:8080",
	} {
		t.Setenv(name, value)
	}
	var files []string
	for _, pattern := range []string{"*.yaml", "compose/*.yaml"} {
		found, err := filepath.Glob(filepath.Join("..", "..", "deploy", pattern))
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.GreaterOrEqual(t, len(files), 10)
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			require.NoError(t, err)
			defer out.Close()
			failed := (&checkCmd{Config: file, Timeout: patience}).Run(t.Context(), stdio{nil, out, out})
			text, err := os.ReadFile(out.Name())
			require.NoError(t, err)
			require.NoError(t, failed, "%s", text)
			require.NotContains(t, string(text), "a-secret")
			require.NotContains(t, string(text), "warning", "%s", text)
		})
	}
}
