// Package report has what the documents of the benchmarks are written with.
package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Report is a document that is also shown while it is written. The zero value shows it to nobody.
type Report struct {
	// Copy receives what is written as it is written.
	Copy io.Writer
	text strings.Builder
}

// Printf adds to the document.
func (r *Report) Printf(format string, args ...any) {
	if r.Copy != nil {
		fmt.Fprintf(r.Copy, format, args...)
	}
	fmt.Fprintf(&r.text, format, args...)
}

// String is the document as far as it is written.
func (r *Report) String() string { return r.text.String() }

// Command gives the way to repeat a run of a make target. Flags that make gives itself, each with a
// value, are left out: paths on this machine say nothing.
func Command(target string, args []string, made ...string) string {
	var flags []string
	for i := 0; i < len(args); i++ {
		if slices.Contains(made, args[i]) {
			i++
			continue
		}
		flags = append(flags, args[i])
	}
	if len(flags) == 0 {
		return "make " + target
	}
	return "make " + target + " FLAGS='" + strings.Join(flags, " ") + "'"
}

// FirstLine gives the first line of a file.
func FirstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	return string(line)
}

// Processor names this machine's.
func Processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo") // without it the name is unknown
	for line := range strings.Lines(string(content)) {
		if name, found := strings.CutPrefix(line, "model name"); found {
			return strings.Trim(name, " \t:\n")
		}
	}
	return "unknown processor"
}
