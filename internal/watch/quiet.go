package watch

import (
	"context"
	"log/slog"
)

// quiet is for client-go's log: what it tells about its ordinary work, such as a watch
// that ended and is begun again, is for debugging. Its errors are warnings, because what
// matters of them is in our own status.
type quiet struct{ slog.Handler }

func quieted(level slog.Level) slog.Level { return level - (slog.LevelInfo - slog.LevelDebug) }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, quieted(level))
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quieted(r.Level)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
