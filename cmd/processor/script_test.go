package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"sortition/schemas"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata/script")

// TestMain makes the test binary the real command when it is called "processor".
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"processor": main})
}

// leakChecked fails a run that leaves goroutines behind.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// TestScripts runs testdata/script/*.txtar: dialogues with the real command.
//
// Besides testscript's own commands there are
//
//	exits CODE COMMAND...    run a command, which must end with this exit code
//	bytes FILE QUOTED...     write Go string literals' text to a file
//	cut FILE N               cut a file to its first N bytes
//	long FILE N              append a line of N bytes, with its line feed, to a file
//
// and $SMALL, a datafile of two flags, and $SHOP, the one of examples/.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			for name, path := range map[string]string{
				"SMALL": filepath.Join("testdata", "small.json"),
				"SHOP":  filepath.Join("..", "..", "examples", "datafile.json"),
			} {
				absolute, err := filepath.Abs(path)
				if err != nil {
					return err
				}
				env.Setenv(name, absolute)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "bytes": scriptBytes, "cut": scriptCut, "long": scriptLong,
		},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func scriptBytes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bytes FILE QUOTED...")
	}
	var text []byte
	for _, quoted := range args[1:] {
		part, err := strconv.Unquote(`"` + quoted + `"`)
		ts.Check(err)
		text = append(text, part...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o666))
}

func scriptCut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE N")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

func scriptLong(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: long FILE N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o666)
	ts.Check(err)
	head, tail := `{"user_id":"`, `"}`
	_, err = file.WriteString(head + strings.Repeat("x", n-len(head)-len(tail)) + tail + "\n")
	ts.Check(err)
	ts.Check(file.Close())
}

// Every reject code has a script in which the command gives it; but for the one that
// takes headers, which lines of a file don't have.
func TestEveryRejectCodeHasAScript(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("testdata", "script", "assign_rejects.txtar"))
	require.NoError(t, err)
	for _, code := range schemas.RejectCodes() {
		if code == schemas.RejectBadCloudEvent {
			continue
		}
		require.True(t, bytes.Contains(script, []byte(`"code":"`+string(code)+`"`)), code)
	}
}
