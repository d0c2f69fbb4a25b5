// Package printed keeps what programs and loggers print, for tests that look at it meanwhile.
package printed

import (
	"io"
	"strings"
	"sync"
)

// Text is an io.Writer that keeps all that is written. The zero Text is ready; it is safe for
// concurrent use.
type Text struct {
	// Also, if not nil, gets all of it too, as the test's log.
	Also io.Writer
	// mu guards text.
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (t *Text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	if t.Also == nil {
		return len(p), nil
	}
	return t.Also.Write(p)
}

// String gives what has been written so far.
func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
