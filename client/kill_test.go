package client

const childVariable = "SORTITION_CLIENT_CHILD"

func child() int { return 0 }
