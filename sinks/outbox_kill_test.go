package sinks_test

func runKillChild() bool { return false }
