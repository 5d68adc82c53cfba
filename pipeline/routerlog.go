package pipeline

import (
	"context"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
)

// routerLog is a slog.Logger as Watermill's router wants one. The router reports
// its own coming and going as news, and the end of its last handler as an error,
// with a stack; whether that was wanted, Run tells. What it calls an error is a
// batch that comes again: a warning.
type routerLog struct{ to *slog.Logger }

var _ watermill.LoggerAdapter = routerLog{}

func (l routerLog) Error(msg string, err error, fields watermill.LogFields) {
	level := slog.LevelWarn
	if msg == "All handlers stopped, closing router" {
		level = slog.LevelDebug
	}
	if err != nil {
		// As text: errors of this library print their stack when they can.
		l.log(level, msg, fields.Add(watermill.LogFields{"error": err.Error()}))
		return
	}
	l.log(level, msg, fields)
}

func (l routerLog) Info(msg string, fields watermill.LogFields)  { l.log(slog.LevelDebug, msg, fields) }
func (l routerLog) Debug(msg string, fields watermill.LogFields) { l.log(slog.LevelDebug, msg, fields) }

// Trace is per message: not even looked at.
func (routerLog) Trace(string, watermill.LogFields) {}

func (l routerLog) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return routerLog{l.to.With(attributes(fields)...)}
}

func (l routerLog) log(level slog.Level, msg string, fields watermill.LogFields) {
	if ctx := context.Background(); l.to.Enabled(ctx, level) {
		l.to.Log(ctx, level, msg, attributes(fields)...) //nolint:sloglint // the message is the router's constant
	}
}

func attributes(fields watermill.LogFields) []any {
	all := make([]any, 0, len(fields))
	for key, value := range fields {
		all = append(all, slog.Any(key, value))
	}
	return all
}
