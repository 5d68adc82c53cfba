package decision

// FlagDefaults is the JSON object of a flag's typed default values, "{}" for an
// unknown flag: what legacy variable calls give when a bandit has failed.
// Source: decide.md DC-26, legacy-api.md LG-14.
func (p *Project) FlagDefaults(flagKey string) string {
	i := p.flagByKey.find(flagKey)
	if i == none {
		return "{}"
	}
	return p.flags[i].defaults
}
