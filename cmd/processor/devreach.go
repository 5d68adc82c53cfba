package main

// devHint is a command that reaches the broker from outside.
type devHint struct {
	Does    string `json:"does"`
	Command string `json:"command"`
}

// kcatHints are commands of kcat, the Swiss army knife of librdkafka.
func kcatHints(broker string) []devHint {
	return []devHint{
		{"watch decisions", "kcat -b " + broker + " -t " + devTopics.Decisions + " -C -o end -u"},
		{"watch dead letters", "kcat -b " + broker + " -t " + devTopics.DeadLetters + " -C -o end -u -f '%h\\n'"},
		{"send an activity", `echo '{"user_id":"u-17","attributes":{"country":"DE","plan":"pro"}}' | kcat -b ` + broker + " -t " + devTopics.Activities + " -P -k u-17"},
	}
}
