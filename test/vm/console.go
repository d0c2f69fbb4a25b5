package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// console keeps the end of what the serial line and QEMU itself said.
type console struct {
	mu   sync.Mutex
	text []byte
}

// consoleLimit is how many bytes of the console are kept, consoleLines how
// many lines an error shows.
const (
	consoleLimit = 64 << 10
	consoleLines = 120
)

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, bytes.ReplaceAll(p, []byte("\r"), nil)...)
	if extra := len(c.text) - consoleLimit; extra > 0 {
		c.text = c.text[extra:]
	}
	return len(p), nil
}

// explain adds the last lines of the console to an error.
func (c *console) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.TrimSpace(string(c.text))
	if text == "" || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w; its console said:\n%s", err, lastLines(text, consoleLines))
}
