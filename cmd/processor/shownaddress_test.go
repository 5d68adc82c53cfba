package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShownAddress(t *testing.T) {
	for address, shown := range map[string]string{
		"":                                    "",
		"http://h":                            "http://h",
		"https://h:8080/v1/events":            "https://h:8080/v1/events",
		"https://h/predict/{}":                "https://h/predict/{}",
		"https://h/predict/%s":                "https://h/predict/{}",
		"https://h/a%20b":                     "https://h/a%20b",
		"http://user:hunter2@h/x?token=t#f":   "http://h/x",
		"http://hunter2@h":                    "http://h",
		"http://h?token=hunter2":              "http://h",
		"http://h/x#hunter2":                  "http://h/x",
		"http://user:hun%2Fter2@h/x":          "http://h/x",
		"http://user:hunter2@[::1]:80/x":      "http://[::1]:80/x",
		"http://user:hun/ter2@h/x":            "http://…",
		"http://user:1/hunter2@h/x":           "http://…",
		"http://user?hunter2@h/x":             "http://…",
		"http://us@er:1/hunter2@h/x":          "http://…",
		"http://user:hun%zzter2@h/x":          "http://…",
		"redis://:hunter2@h:6379/0":           "redis://h:6379/0",
		"h:6379":                              "h:6379",
		"hunter2@h:6379":                      "h:6379",
		"user:hun@ter2@h:6379/0?pass=hunter2": "h:6379/0",
	} {
		require.Equal(t, shown, shownAddress(address), address)
	}
}

func TestWithoutSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"nothing to hide: 1.5 of a:9092, b:9092":                        "nothing to hide: 1.5 of a:9092, b:9092",
		`Head "http://u:hunter2@h/x?token=t": dial tcp`:                 `Head "http://h/x": dial tcp`,
		"see https://h/x?token=hunter2, and (http://hunter2@h). Or so.": "see https://h/x, and (http://h). Or so.",
		`kafka.brokers: broker address "u:hunter2@h:9092": want host`:   `kafka.brokers: broker address "h:9092": want host`,
		"lookup hunter2@h: no such host":                                "lookup h: no such host",
	} {
		require.Equal(t, want, withoutSecrets(text))
	}
}

// No form of check shows what an address holds besides scheme, host and path.
func TestCheckHidesSecretsInAddresses(t *testing.T) {
	r := newConnectRig(t)
	host := strings.TrimPrefix(r.cloud, "http://")
	const inside = "me:" + connectPassword + "@"
	const behind = "?token=" + connectPassword + "#" + connectPassword
	for _, c := range []struct {
		name, host, redis string
		isGood            bool
	}{
		{"all answer", host, r.redis, true},
		{"nobody does", "127.0.0.1:1", connectPassword + "@127.0.0.1:1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, _ := r.check(t, patience, // sees to the JSON
				"template", "http://"+inside+c.host+"/datafiles/auth/{sdk_key}.json"+behind,
				"events", "http://"+inside+c.host+"/v1/events"+behind,
				"segments", "http://"+inside+c.host,
				"predictions", "http://"+inside+c.host+"/predict/{}"+behind,
				"odp", `{endpoint: "http://`+inside+c.host+`", public_key: key-`+connectPassword+`}`,
				"redis", `{address: "`+c.redis+`", password: `+connectPassword+`}`)
			for _, a := range report.Tried {
				if a.What == "events" {
					require.Equal(t, "http://"+c.host+"/v1/events", a.Target)
					require.Equal(t, c.isGood, a.OK, a.Result)
				}
			}
			for _, isConnecting := range []bool{false, true} {
				out, err := os.Create(filepath.Join(t.TempDir(), "out"))
				require.NoError(t, err)
				defer out.Close()
				_ = (&checkCmd{Config: filepath.Join(r.folder, "sortition.yaml"), Connect: isConnecting, Timeout: patience}).Run(t.Context(), stdio{nil, out, out})
				text, err := os.ReadFile(out.Name())
				require.NoError(t, err)
				require.Contains(t, string(text), "events to   http://"+c.host+"/v1/events\n")
				require.NotContains(t, string(text), connectPassword)
			}
		})
	}
	t.Run("faults", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sortition.yaml")
		const lines = "datafile: {path: \"http://" + inside + "h/d.json" + behind + "\"}\nkafka: {brokers: [\"" + inside + "h:9092\"]}\n"
		const more = lines + "predictions: {fetch: true, endpoint: \"http://me:" + connectPassword + "/x@h/{}\"}\n"
		require.NoError(t, os.WriteFile(path, []byte(more), 0o600))
		for _, isJSON := range []bool{false, true} {
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			require.NoError(t, err)
			defer out.Close()
			require.ErrorIs(t, (&checkCmd{Config: path, Timeout: patience, JSON: isJSON}).Run(t.Context(), stdio{nil, out, out}), errShown)
			text, err := os.ReadFile(out.Name())
			require.NoError(t, err)
			require.Contains(t, string(text), "h:9092")
			require.NotContains(t, string(text), connectPassword)
		}
		// What run finds only when it puts the parts together.
		require.NoError(t, os.WriteFile(path, []byte(lines), 0o600))
		err := (&runCmd{Config: path}).Run(t.Context(), stdio{nil, os.Stdout, os.Stderr})
		require.ErrorContains(t, err, "h:9092")
		require.NotContains(t, err.Error(), connectPassword)
	})
}
