package decision

// Options is a set of decide options. The zero value is the default behaviour;
// sets are joined with |. Source: decide.md section 3.
type Options uint16

// The decide options, by the SDKs' names.
const (
	DisableDecisionEvent     Options = 1 << iota // no impression
	EnabledFlagsOnly                             // decisions that are off aren't listed
	IgnoreUserProfileService                     // neither look up nor save sticky decisions
	IncludeReasons                               // collect reasons
	ExcludeVariables                             // variables are {}
	IgnoreCMABCache                              // bandits: neither read nor write the cache
	ResetCMABCache                               // bandits: empty the whole cache first
	InvalidateUserCMABCache                      // bandits: drop this user's entry for the rule first
)

var optionNames = [...]string{
	"DISABLE_DECISION_EVENT", "ENABLED_FLAGS_ONLY", "IGNORE_USER_PROFILE_SERVICE", "INCLUDE_REASONS",
	"EXCLUDE_VARIABLES", "IGNORE_CMAB_CACHE", "RESET_CMAB_CACHE", "INVALIDATE_USER_CMAB_CACHE",
}

// ParseOption returns the option of an SDK name such as "INCLUDE_REASONS". An
// unknown name gives no option and false; the SDKs ignore it (DC-10).
func ParseOption(name string) (Options, bool) {
	for i, n := range optionNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// OptionNames lists the known names in a fixed order.
func OptionNames() []string { return append([]string(nil), optionNames[:]...) }

// Has tells whether every option of want is set.
func (o Options) Has(want Options) bool { return o&want == want }
