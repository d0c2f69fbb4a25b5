package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// execs counts the programs that are started in the whole machine, by a tracepoint.
type execs struct{ instance string }

const tracing = "/sys/kernel/tracing"

// countExecs begins to count. Helpers that the kernel starts to load modules do not count. The names of
// tasks are not recorded: for that the kernel patches its scheduler (tracing_start_sched_switch,
// trace_sched_switch.c), in the middle of which an emulator is likely to run it.
func countExecs() (*execs, error) {
	if err := unix.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("tracefs: %w", err)
	}
	x := &execs{filepath.Join(tracing, "instances", "execs")}
	event := filepath.Join(x.instance, "events", "sched", "sched_process_exec")
	if err := errors.Join(
		os.WriteFile(filepath.Join(tracing, "options", "record-cmd"), []byte("0"), 0o644), // an instance begins with that
		os.Mkdir(x.instance, 0o755),
		os.WriteFile(filepath.Join(event, "filter"), []byte(`filename != "/sbin/modprobe"`), 0o644),
		os.WriteFile(filepath.Join(event, "enable"), []byte("1"), 0o644),
	); err != nil {
		return nil, fmt.Errorf("trace of execs: %w", err)
	}
	return x, nil
}

// count is how many there have been, those included that the buffer has no room for any more.
func (x *execs) count() (total int, err error) {
	files, err := filepath.Glob(filepath.Join(x.instance, "per_cpu", "cpu*", "stats"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("trace of execs: no statistics: %w", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("trace of execs: %w", err)
		}
		for line := range strings.Lines(string(content)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if name == "entries" || name == "overrun" {
				n, err := strconv.Atoi(value)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", file, err)
				}
				total += n
			}
		}
	}
	return total, nil
}
