package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A check that finds nothing in the file is worth what it finds in a broken one.
func TestLoadFindsWhatIsWrong(t *testing.T) {
	root := t.TempDir()
	repository := filepath.Join("..", "..")
	for _, dir := range []string{"deploy", filepath.Join("internal", "kafkatest")} {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			to, err := filepath.Rel(repository, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(root, to), text, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"as it is", "", "", ""},
		{"unknown key", "    hostname: kafka\n", "    hostnam: kafka\n", "hostnam"},
		{"no version", "image: apache/kafka:4.2.0", "image: apache/kafka", "has no version"},
		{"another Kafka", "image: apache/kafka:4.2.0", "image: apache/kafka:3.0.0", "isn't the version"},
		{"open port", `"127.0.0.1:9092:9092"`, `"9092:9092"`, "open to the network"},
		{"unknown dependency", "kafka: {condition: service_healthy}", "nobody: {condition: service_healthy}", "nobody"},
		{"missing file", "./deploy/compose/sortition.yaml:", "./deploy/compose/nothing.yaml:", "nothing.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(good), c.old, c.new, 1)
			if c.old != "" && text == string(good) {
				t.Fatalf("docker-compose.yml has no %q to break", c.old)
			}
			if err := os.WriteFile(filepath.Join(root, "docker-compose.yml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := load(t.Context(), root)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
