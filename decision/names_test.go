package decision

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Names are found, and others aren't, however much they look alike.
func TestNameTable(t *testing.T) {
	alike := map[string]uint32{} // equal length, beginning and end: hashed whole
	mixed := map[string]uint32{"": 0}
	for i := range 2000 {
		alike[fmt.Sprintf("beginning%06dthe same end", i)] = uint32(i)
		mixed[strings.Repeat("é", i%7)+fmt.Sprint(i*31)] = uint32(i + 1)
	}
	short := map[string]uint32{}
	for a := range 256 {
		short[string([]byte{byte(a)})] = uint32(a)
		short[string([]byte{byte(a), 'x'})] = uint32(a + 256)
		short[string([]byte{'x', byte(a), 'x', 0})] = uint32(a + 512)
	}
	for _, names := range []map[string]uint32{nil, {"": 7}, alike, mixed, short} {
		table := newNameTable(names)
		for name, want := range names {
			require.Equal(t, want, table.find(name), "%q", name)
			for _, other := range []string{name + "x", "x" + name, strings.ToUpper(name) + " ", name + name} {
				want, ok := names[other]
				if !ok {
					want = none
				}
				require.Equal(t, want, table.find(other), "%q", other)
			}
		}
		_, has := names[""]
		require.Equal(t, has, table.find("") != none)
	}
	require.True(t, newNameTable(alike).hashAll)
	require.False(t, newNameTable(mixed).hashAll)
}
