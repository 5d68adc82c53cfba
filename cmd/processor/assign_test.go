package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sortition/examples"
	"sortition/internal/sample"
)

// processor runs the real command in dir and returns what it wrote to standard
// error.
func processor(t testing.TB, dir string, args ...string) (stderr string, code int) {
	cmd := exec.Command("processor", args...)
	cmd.Dir = dir
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Run(); err != nil {
		require.NotNil(t, cmd.ProcessState, "%v", err)
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

// writeActivities writes sample activities to dir/name and returns how many there
// are of at least size bytes.
func writeActivities(t testing.TB, path string, size int64, options sample.Options) (n int) {
	file, err := os.Create(path)
	require.NoError(t, err)
	w := bufio.NewWriterSize(file, 1<<20)
	g := sample.NewGenerator(1, options)
	var line []byte
	for written := int64(0); written < size; n++ {
		line = append(g.AppendNext(line[:0]), '\n')
		_, err := w.Write(line)
		require.NoError(t, err)
		written += int64(len(line))
	}
	require.NoError(t, w.Flush())
	require.NoError(t, file.Close())
	return n
}

func writeShop(t testing.TB, dir string) {
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.json"), examples.Datafile(), 0o666))
}

func requireSameFile(t *testing.T, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	require.NoError(t, err)
	b, err := os.ReadFile(got)
	require.NoError(t, err)
	require.NotEmpty(t, a)
	require.True(t, bytes.Equal(a, b), "%s and %s differ", want, got)
}

// Decisions, event bodies and rejects are the same bytes for any number of
// workers, and again in a second run.
func TestWorkersGiveTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	writeShop(t, dir)
	options := sample.DefaultOptions()
	options.Bad = 20
	writeActivities(t, filepath.Join(dir, "a.ndjson"), 4<<20, options)
	for _, workers := range []string{"1", "2", "4", "9"} {
		stderr, code := processor(t, dir, "assign", "--datafile", "shop.json", "-i", "a.ndjson", "--workers", workers, "--now", "1",
			"-o", "d"+workers, "--events", "e"+workers, "--rejects", "r"+workers)
		require.Equal(t, exitRejected, code, stderr)
		for _, name := range []string{"d", "e", "r"} {
			requireSameFile(t, filepath.Join(dir, name+"1"), filepath.Join(dir, name+workers))
		}
	}
}

// Every record of the input is in exactly one output, in order.
func TestNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	writeShop(t, dir)
	options := sample.DefaultOptions()
	options.Bad = 50
	n := writeActivities(t, filepath.Join(dir, "a.ndjson"), 1<<20, options)
	_, code := processor(t, dir, "assign", "--datafile", "shop.json", "-i", "a.ndjson", "-o", "d", "--rejects", "r", "--workers", "3")
	require.Equal(t, exitRejected, code)
	input, err := os.ReadFile(filepath.Join(dir, "a.ndjson"))
	require.NoError(t, err)
	lines := bytes.Split(bytes.TrimSuffix(input, []byte("\n")), []byte("\n"))
	require.Len(t, lines, n)
	seen := make([]int, n+1)
	last := 0
	eachJSONLine(t, filepath.Join(dir, "d"), func(record map[string]any) {
		line := int(record["source"].(map[string]any)["line"].(float64))
		require.Greater(t, line, last)
		last = line
		seen[line]++
	})
	last = 0
	eachJSONLine(t, filepath.Join(dir, "r"), func(record map[string]any) {
		line := int(record["line"].(float64))
		require.Greater(t, line, last)
		last = line
		seen[line]++
		require.Equal(t, lines[line-1], rejectedInput(t, record))
	})
	for line := 1; line <= n; line++ {
		require.Equal(t, 1, seen[line], "line %d", line)
	}
}

func eachJSONLine(t testing.TB, path string, f func(map[string]any)) {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	decoder := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	n := 0
	for {
		var record map[string]any
		err := decoder.Decode(&record)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		f(record)
		n++
	}
	require.Positive(t, n, "%s is empty", path)
}

func rejectedInput(t testing.TB, record map[string]any) []byte {
	if text, ok := record["input"].(string); ok {
		return []byte(text)
	}
	data, err := base64.StdEncoding.DecodeString(record["input_base64"].(string))
	require.NoError(t, err)
	return data
}

// A line beyond the limit is kept byte for byte, between its neighbours.
func TestLongLineIsKeptWhole(t *testing.T) {
	dir := t.TempDir()
	writeShop(t, dir)
	long := make([]byte, 3*maxLine+12345)
	for i := range long {
		long[i] = byte(i*7 + i>>8)
		if long[i] == '\n' {
			long[i] = 0xff
		}
	}
	var input bytes.Buffer
	for i := range 600 {
		fmt.Fprintf(&input, `{"user_id":"before-%d"}`+"\n", i)
	}
	input.Write(long)
	input.WriteString("\nnot json\n" + `{"user_id":"after"}`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.ndjson"), input.Bytes(), 0o666))
	_, code := processor(t, dir, "assign", "--datafile", "shop.json", "-i", "a.ndjson", "-o", "d", "--rejects", "r", "--workers", "2")
	require.Equal(t, exitRejected, code)
	var codes []string
	eachJSONLine(t, filepath.Join(dir, "r"), func(record map[string]any) {
		codes = append(codes, record["code"].(string)+" "+strconv.Itoa(int(record["line"].(float64))))
		if record["code"] == "line_too_long" {
			require.True(t, bytes.Equal(long, rejectedInput(t, record)))
		}
	})
	require.Equal(t, []string{"line_too_long 601", "not_json 602"}, codes)
	n := 0
	eachJSONLine(t, filepath.Join(dir, "d"), func(record map[string]any) { n++ })
	require.Equal(t, 601, n)
}

// peakMemory runs the command and returns the peak of its resident memory in
// bytes, by the kernel's account.
//
// The kernel's figure for a finished child would hold the memory of the test
// process that started it, too, so it is read while the child runs.
func peakMemory(t testing.TB, dir string, args ...string) (peak int64, took time.Duration) {
	cmd := exec.Command("processor", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	require.NoError(t, cmd.Start())
	done := make(chan error, 1) // one result, so that the waiter never waits
	go func() { done <- cmd.Wait() }()
	status := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "status")
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			took = time.Since(start)
			require.NoError(t, err, stderr.String())
			require.Positive(t, peak, "no measurement")
			return peak, took
		case <-ticker.C:
			text, err := os.ReadFile(status)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
					require.NoError(t, err)
					peak = max(peak, kib<<10)
				}
			}
		}
	}
}

// Memory doesn't grow with the input. When the garbage collector happens to run
// moves the peak of a run by half, so the best of three runs over 100 MB is held
// against the worst of three over 20 MB.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("assigns 360 MB")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc to read the memory from")
	}
	dir := t.TempDir()
	writeShop(t, dir)
	options := sample.DefaultOptions()
	options.Bad = 0
	peaks := map[int64][]int64{}
	for _, size := range []int64{20 << 20, 100 << 20} {
		n := writeActivities(t, filepath.Join(dir, "a.ndjson"), size, options)
		for range 3 {
			peak, took := peakMemory(t, dir, "assign", "--datafile", "shop.json", "-i", "a.ndjson", "-o", os.DevNull, "--events", os.DevNull, "--workers", "2")
			t.Logf("%d MiB, %d activities: peak %d MiB, %.1f s", size>>20, n, peak>>20, took.Seconds())
			require.Less(t, peak, int64(150<<20))
			peaks[size] = append(peaks[size], peak)
		}
	}
	require.Less(t, slices.Min(peaks[100<<20]), slices.Max(peaks[20<<20])*3/2)
}

// A run that is interrupted leaves no file, neither under a final nor under a
// temporary name, and what was there before stays.
func TestInterruptLeavesNoFile(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocked=%t", blocked), func(t *testing.T) {
			dir := t.TempDir()
			writeShop(t, dir)
			old := filepath.Join(dir, "events.ndjson")
			require.NoError(t, os.WriteFile(old, []byte("old\n"), 0o666))
			cmd := exec.Command("processor", "assign", "--datafile", "shop.json", "-o", "out.ndjson", "--events", "events.ndjson")
			cmd.Dir = dir
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			input, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			fed := make(chan struct{}) // closed when the feeder has ended
			go func() {
				defer close(fed)
				g := sample.NewGenerator(1, sample.DefaultOptions())
				for i := 0; ; i++ {
					if blocked && i == 2000 {
						return // and the pipe stays open: the command waits for more
					}
					if _, err := input.Write(append(g.AppendNext(nil), '\n')); err != nil {
						return
					}
				}
			}()
			require.Eventually(t, func() bool { // it has begun to write
				names, err := filepath.Glob(filepath.Join(dir, ".out.ndjson.*.tmp"))
				if err != nil || len(names) != 1 {
					return false
				}
				info, err := os.Stat(names[0])
				return err == nil && info.Size() > 0
			}, time.Minute, 2*time.Millisecond)
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			err = cmd.Wait()
			require.Error(t, err)
			require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), stderr.String())
			require.Equal(t, "processor: interrupted\n", stderr.String())
			<-fed
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			require.Equal(t, []string{"events.ndjson", "shop.json"}, names)
			text, err := os.ReadFile(old)
			require.NoError(t, err)
			require.Equal(t, "old\n", string(text))
		})
	}
}

func TestProgressLine(t *testing.T) {
	require.Equal(t, "12,000 activities  6,000/s", progressLine(12000, 500, -1, 2*time.Second))
	require.Equal(t, strings.Repeat("█", 6)+strings.Repeat("░", 18)+"  25 %  12,000 activities  6,000/s  6s left",
		progressLine(12000, 250, 1000, 2*time.Second))
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "Zürich", printable("Zürich"))
	require.Equal(t, `"\x1b[31m"`, printable("\x1b[31m"))
	require.Equal(t, `""`, printable(""))
	require.Equal(t, `"\xff"`, printable("\xff"))
}
