package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// benchReport is what `processor bench` prints, and its --json.
type benchReport struct {
	Machine machine        `json:"machine"`
	Setting benchSetting   `json:"setting"`
	Rows    []*rowReport   `json:"rows,omitempty"`
	Latency *latencyReport `json:"latency,omitempty"`
	Memory  *memoryReport  `json:"memory,omitempty"`
}

type machine struct {
	Go         string `json:"go"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Processors int    `json:"processors"`
	Revision   string `json:"revision"`
}

func thisMachine() machine {
	b := readBuild()
	return machine{Go: b.Go, OS: b.OS, Arch: b.Arch, Processors: runtime.GOMAXPROCS(0), Revision: b.Revision}
}

type benchSetting struct {
	IsInProcess   bool     `json:"broker_in_process"`
	Brokers       []string `json:"brokers,omitempty"` // given ones
	Codec         string   `json:"codec"`
	Partitions    int      `json:"partitions"`
	Activities    int      `json:"activities"`
	ActivityBytes float64  `json:"activity_bytes,omitempty"` // mean, key included
	DatafileFlags int      `json:"datafile_flags"`
	Rounds        int      `json:"rounds"`
}

func (b *bench) setting() benchSetting {
	return benchSetting{
		IsInProcess: len(b.Brokers) == 0, Brokers: b.Brokers, Codec: b.Codec, Partitions: b.Partitions,
		Activities: b.Activities, DatafileFlags: b.project.NumFlags(), Rounds: b.Rounds,
	}
}

// rowReport is a row of the table. Rates are of activities, medians of the rounds.
type rowReport struct {
	Name        string    `json:"name"`
	Flags       int       `json:"flags"`
	Rate        float64   `json:"records_per_second"`
	Rates       []float64 `json:"rounds"`
	RecordBytes float64   `json:"record_bytes"`       // written per activity, uncompressed: keys and values
	MBPerSecond float64   `json:"mb_per_second"`      // read and written, uncompressed
	OfCopy      float64   `json:"of_copy,omitempty"`  // median of the rounds' ratios
	OfLoop      float64   `json:"of_io,omitempty"`    // likewise, to the loop with as many flags
	CPU         float64   `json:"cpu_us_per_record"`  // processor time of the whole process
	Allocs      float64   `json:"allocs_per_record"`  // of the whole process
	PeakRSS     int64     `json:"peak_rss,omitempty"` // bytes, of the whole process, highest of the rounds

	turns []turnReport
}

// conclude makes figures of the turns.
func (b *bench) conclude(rows []*rowReport) {
	for _, r := range rows {
		var cpu, allocs []float64
		for _, t := range r.turns {
			r.Rates = append(r.Rates, t.rate)
			cpu = append(cpu, t.cpu)
			allocs = append(allocs, t.allocs)
			r.PeakRSS = max(r.PeakRSS, t.peakRSS)
		}
		r.Rate, r.CPU, r.Allocs = median(r.Rates), median(cpu), median(allocs)
		switch made := b.ready(max(r.Flags, 1)); {
		case r.Flags == 0:
			r.RecordBytes = b.activityBytes()
		case strings.HasPrefix(r.Name, "events/"):
			r.RecordBytes = made.bytes + made.eventBytes
		case r.isDelivered():
			r.RecordBytes = made.eventBytes
			r.MBPerSecond = r.Rate * 2 * made.eventBytes / 1e6
			continue
		default:
			r.RecordBytes = made.bytes
		}
		r.MBPerSecond = r.Rate * (b.activityBytes() + r.RecordBytes) / 1e6
	}
	for _, r := range rows {
		if r.isDelivered() {
			continue // there is nothing like it to compare with
		}
		for _, other := range rows {
			switch {
			case other.Name == "copy" && r != other:
				r.OfCopy = r.ratio(other)
			case strings.HasPrefix(other.Name, "io/") && other.Flags == r.Flags && r != other:
				r.OfLoop = r.ratio(other)
			}
		}
	}
}

// isDelivered tells whether the row is about what is posted, and not stored.
func (r *rowReport) isDelivered() bool { return strings.HasPrefix(r.Name, "delivered/") }

// ratio is the median of the ratios of each round: a machine that slows down slows
// both down.
func (r *rowReport) ratio(other *rowReport) float64 {
	ratios := make([]float64, len(r.Rates))
	for i := range r.Rates {
		ratios[i] = r.Rates[i] / max(other.Rates[i], 1)
	}
	return median(ratios)
}

// spread is half the distance between the fastest and the slowest round, as a share
// of the median.
func (r *rowReport) spread() float64 {
	return (slices.Max(r.Rates) - slices.Min(r.Rates)) / 2 / max(r.Rate, 1)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *benchReport) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// write writes the table.
func (r *benchReport) write(w io.Writer) {
	s := &r.Setting
	broker := "a broker in the process"
	if !s.IsInProcess {
		broker = "the broker at " + strings.Join(s.Brokers, ",")
	}
	fmt.Fprintf(w, "sortition bench  %s, %d partitions, %s, acks=all; %s activities", broker, s.Partitions, s.Codec, thousands(s.Activities))
	if s.ActivityBytes > 0 {
		fmt.Fprintf(w, " of %.0f B", s.ActivityBytes)
	}
	fmt.Fprintf(w, "; datafile of %d flags\n", s.DatafileFlags)
	fmt.Fprintf(w, "                 %s %s/%s, %d processors\n", r.Machine.Go, r.Machine.OS, r.Machine.Arch, r.Machine.Processors)
	if len(r.Rows) > 0 {
		fmt.Fprintf(w, "\n%-14s %10s %7s %9s %8s %8s %8s %8s %8s %10s\n", "", "records/s", "spread", "B written", "MB/s", "of copy", "of io", "cpu µs", "allocs", "peak RSS")
		for _, row := range r.Rows {
			fmt.Fprintf(w, "%-14s %10s %7s %9.0f %8.0f %8s %8s %8.1f %8.1f %10s\n", row.Name, thousands(int(row.Rate)),
				fmt.Sprintf("±%.0f %%", 100*row.spread()), row.RecordBytes, row.MBPerSecond, times(row.OfCopy), times(row.OfLoop), row.CPU, row.Allocs, megabytes(row.PeakRSS))
		}
		fmt.Fprintf(w, "\nmedians of %d rounds by turns; B written, cpu and allocs per activity; MB/s read and written, uncompressed;\ndelivered: cpu, allocs and RSS include the endpoint's", s.Rounds)
		if s.IsInProcess {
			fmt.Fprint(w, ";\ncpu, allocs and RSS include the broker's")
		}
		fmt.Fprintln(w)
	}
	if r.Latency != nil {
		r.Latency.write(w)
	}
	if r.Memory != nil {
		r.Memory.write(w)
	}
}

func times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

func megabytes(n int64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

// inMilliseconds renders a latency.
func inMilliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }
