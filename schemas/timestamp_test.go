package schemas

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParseTime(t *testing.T) {
	for in, want := range map[string]int64{
		"1970-01-01T00:00:00Z":                 0,
		"1969-12-31T23:59:59.999Z":             -1,
		"2026-01-02T03:04:05.678Z":             1767323045678,
		"2026-01-02t03:04:05.6z":               1767323045600,
		"2026-01-02T03:04:05.678999999999999Z": 1767323045678,
		"2026-01-02T05:04:05+02:00":            1767323045000,
		"2026-01-01T21:34:05-05:30":            1767323045000,
		"2024-02-29T00:00:00Z":                 1709164800000,
		"2000-02-29T00:00:00Z":                 951782400000,
		"0000-01-01T00:00:00Z":                 MinTimestamp,
		"9999-12-31T23:59:59.999Z":             MaxTimestamp,
	} {
		ms, ok := parseTime(in)
		assert.True(t, ok, in)
		assert.Equal(t, want, ms, in)
	}
	for _, in := range []string{
		"", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05 Z", "2026-01-02 03:04:05Z", "2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00,5Z",
		"2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+0200", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+02:60",
		"2026-01-01T00:00:00*02:00", "2026-1-01T00:00:00Z", "+2026-01-01T00:00:00Z", "2026-01-01T00:00:00ZZ",
		"0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
	} {
		_, ok := parseTime(in)
		assert.False(t, ok, in)
	}
}

// Every day of the range, against the standard library.
func TestDaysSinceEpoch(t *testing.T) {
	day := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	for day.Year() <= 9999 {
		y, m, d := day.Date()
		if got, want := daysSinceEpoch(int64(y), int64(m), int64(d)), day.Unix()/86400; got != want {
			t.Fatalf("%s: got %d, want %d", day.Format(time.DateOnly), got, want)
		}
		day = day.AddDate(0, 0, 1)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"2026-01-02T03:04:05.678Z", "2024-02-29T23:59:59-23:59", "0001-01-01T00:00:00+00:00", "2026-01-02T03:04:05,5Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := parseTime(s)
		if !ok {
			return
		}
		want, err := time.Parse(time.RFC3339, upperTZ(s))
		if err != nil {
			t.Fatalf("%q accepted, the standard library says %v", s, err)
		}
		if want.UnixMilli() != ms {
			t.Fatalf("%q: got %d, want %d", s, ms, want.UnixMilli())
		}
	})
}

// upperTZ spells T and Z the only way the standard library reads them.
func upperTZ(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == 't' || c == 'z' {
			b[i] = c - 0x20
		}
	}
	return string(b)
}
