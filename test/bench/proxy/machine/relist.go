package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
)

// relist starts the API server anew, waits until the subject has listed everything again and is
// quiet, and gives the highest mark of its memory.
func (s *subject) relist(ctx context.Context, b *bench) (*measured.Relist, error) {
	// Forget the highest mark (proc_pid_clear_refs(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.proxy.PID()), []byte("5"), 0o200); err != nil {
		return nil, err
	}
	var r measured.Relist
	var err error
	r.Use, err = s.during(b.execs, func() error {
		if err := b.desk.restart(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
		defer cancel()
		for {
			lists, err := b.desk.lists(ctx)
			if err != nil {
				return err
			}
			if lists > 0 {
				break
			}
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return fmt.Errorf("the API server was started anew and nobody has listed: %w", err)
			}
		}
		s.quiet(ctx)
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, r.Peak, err = s.memory()
	return &r, err
}
