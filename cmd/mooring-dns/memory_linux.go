package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// releaseProgram unmaps the pages of the program itself, half of which only its
// initializers have touched. The kernel maps those that are still used again, from its
// page cache, as they are used (madvise(2), MADV_DONTNEED on a file mapping).
func releaseProgram() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		slog.Debug("release program pages", "error", err)
		return
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		slog.Debug("release program pages", "error", err)
		return
	}
	for _, m := range programMappings(string(maps), program) {
		if err := m.release(); err != nil {
			slog.Debug("release program pages", "error", err)
		}
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// programMappings finds what is mapped of a file and can never have been written: its code
// and constants (proc_pid_maps(5)). The others hold variables.
func programMappings(maps, file string) (found []mapping) {
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != file || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end); err == nil {
			found = append(found, m)
		}
	}
	return found
}

func (m mapping) release() error {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED)
	if errno != 0 {
		return fmt.Errorf("madvise %x-%x: %w", m.start, m.end, errno)
	}
	return nil
}
