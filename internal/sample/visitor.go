package sample

import "strconv"

// visitor is what stays the same each time a visitor returns.
type visitor struct {
	id         []byte
	country    string
	city       string
	plan       string
	device     string
	appVersion string   // empty in the browser
	age        int64    // 0: not known
	loggedIn   bool     // has an account
	domain     string   // of the account's e-mail address; empty without account
	beta       int      // 0 not known, 1 no, 2 yes
	signedUp   int64    // ms since the epoch
	segments   []string // that the visitor is in
	known      bool     // whoever makes the activities knows them; for the others ODP is to be asked
}

var (
	countries = []weighted{
		{"DE", 22}, {"US", 18}, {"GB", 12}, {"FR", 9}, {"NL", 6}, {"AT", 6}, {"CH", 5},
		{"ES", 5}, {"IT", 5}, {"SE", 4}, {"PL", 4}, {"JP", 2}, {"BR", 2},
	}
	cities = map[string][]string{
		"DE": {"Berlin", "Hamburg", "Köln", "München"}, "US": {"Portland", "Austin", "Boston"},
		"GB": {"Leeds", "London"}, "FR": {"Paris", "Orléans"}, "NL": {"Utrecht"}, "AT": {"Wien", "Graz"},
		"CH": {"Zürich", "Genève"}, "ES": {"Málaga", "Madrid"}, "IT": {"Torino"}, "SE": {"Malmö"},
		"PL": {"Łódź", "Gdańsk"}, "JP": {"東京", "大阪"}, "BR": {"São Paulo"},
	}
	plans       = []weighted{{"free", 62}, {"plus", 26}, {"pro", 12}}
	devices     = []weighted{{"web", 38}, {"android", 34}, {"ios", 28}}
	appVersions = []weighted{
		{"2.9.4", 6}, {"3.0.0", 8}, {"3.1.2", 14}, {"3.2.0", 22}, {"3.2.1", 24}, {"3.10.0", 16},
		{"4.0.0-beta.1", 2}, {"4.0.0-beta.2", 3}, {"4.0.0", 5},
	}
	domains = []weighted{
		{"mail.example", 55}, {"post.example", 25}, {"corp.oak.example", 8}, {"corp.harbour.example", 7}, {"school.example", 5},
	}
	segmentShares = []struct {
		name     string
		perMille int
	}{{"vip", 60}, {"lapsed_buyer", 140}, {"newsletter", 420}, {"deal_hunter", 180}}
)

const day = 24 * 60 * 60 * 1000 // ms

// become makes v the visitor with the given number. The id and the segments
// reuse v's buffers.
func (v *visitor) become(seed, number uint64) {
	r := seeded(seed, 1, number)
	loggedIn := r.chance(700)
	id, segments := v.id[:0], v.segments[:0]
	if loggedIn {
		id = strconv.AppendUint(append(id, "u-"...), 100000+number, 10)
	} else {
		id = appendHex(append(id, "anon-"...), r.next(), 16)
	}
	*v = visitor{id: id, segments: segments, loggedIn: loggedIn}
	v.country = pickWeighted(&r, countries)
	v.city = pick(&r, cities[v.country])
	v.plan = "free"
	if loggedIn {
		v.plan = pickWeighted(&r, plans)
		v.domain = pickWeighted(&r, domains)
	}
	v.device = pickWeighted(&r, devices)
	if v.device != "web" {
		v.appVersion = pickWeighted(&r, appVersions)
	}
	if r.chance(820) {
		// The mean of two draws: most visitors are in their thirties and forties.
		v.age = (r.between(16, 78) + r.between(16, 58)) / 2
	}
	if r.chance(450) {
		v.beta = 1
		if r.chance(120) {
			v.beta = 2
		}
	}
	// Some sign up while the sample runs; most did within the last two years.
	v.signedUp = Base - r.between(-2, 700)*day
	v.known = r.chance(750)
	for _, s := range segmentShares {
		if r.chance(s.perMille) {
			v.segments = append(v.segments, s.name)
		}
	}
}
