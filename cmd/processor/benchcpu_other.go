//go:build !unix

package main

import "time"

// usedProcessor is not known here.
func usedProcessor() time.Duration { return 0 }
