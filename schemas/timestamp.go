package schemas

// The range of timestamps: the years 0000 to 9999, which is what RFC 3339 can
// say. Microseconds sent by mistake fall outside it.
const (
	MinTimestamp int64 = -62167219200000
	MaxTimestamp int64 = 253402300799999
)

// integerMillis reads a JSON number literal as milliseconds. isInteger is
// false when it has a fraction or exponent, inRange when it is no timestamp.
func integerMillis(literal string) (ms int64, isInteger, inRange bool) {
	digits := literal
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	inRange = true
	for i := range len(digits) {
		c := digits[i] - '0'
		if c > 9 {
			return 0, false, false
		}
		if ms = ms*10 + int64(c); ms > MaxTimestamp {
			ms, inRange = MaxTimestamp, false
		}
	}
	if negative {
		ms = -ms
	}
	return ms, len(digits) > 0, inRange && ms >= MinTimestamp
}

// parseTime reads an RFC 3339 date-time as milliseconds; what is finer is cut
// off. Leap seconds are refused, for Unix time has no place for them.
//
// Source: RFC 3339 section 5.6.
func parseTime(s string) (ms int64, ok bool) {
	const date = len("2006-01-02T15:04:05")
	if len(s) < date+1 {
		return 0, false
	}
	year, ok1 := decimal(s[0:4])
	month, ok2 := decimal(s[5:7])
	day, ok3 := decimal(s[8:10])
	hour, ok4 := decimal(s[11:13])
	minute, ok5 := decimal(s[14:16])
	second, ok6 := decimal(s[17:19])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 ||
		s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	ms = daysSinceEpoch(year, month, day)*86400_000 + (hour*3600+minute*60+second)*1000
	rest := s[date:]
	if rest[0] == '.' {
		n := 1
		for scale := int64(100); n < len(rest) && rest[n]-'0' <= 9; scale /= 10 {
			ms += int64(rest[n]-'0') * scale
			n++
		}
		if n == 1 {
			return 0, false
		}
		rest = rest[n:]
	}
	offset, ok := zoneOffset(rest)
	ms -= offset
	return ms, ok && ms >= MinTimestamp && ms <= MaxTimestamp
}

// zoneOffset reads Z or ±hh:mm as milliseconds.
func zoneOffset(s string) (ms int64, ok bool) {
	if len(s) == 1 {
		return 0, s[0]|0x20 == 'z'
	}
	if len(s) != len("+00:00") || s[3] != ':' {
		return 0, false
	}
	hour, ok1 := decimal(s[1:3])
	minute, ok2 := decimal(s[4:6])
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0, false
	}
	ms = (hour*60 + minute) * 60_000
	switch s[0] {
	case '+':
		return ms, true
	case '-':
		return -ms, true
	}
	return 0, false
}

func decimal(s string) (n int64, ok bool) {
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

func daysIn(year, month int64) int64 {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts in years that begin in March, so that the leap day is
// the last of its year, and in eras of 400 years, after which days repeat.
func daysSinceEpoch(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // keeps the division below on positive numbers
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return year*365 + year/4 - year/100 + year/400 + dayOfYear - 146097 - 719468
}
