package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/vm"
)

// written are the flags of a test binary that name a file or folder it writes,
// which go test reads afterwards: profiles, and the log its cache relies on.
var written = []string{
	"blockprofile", "coverprofile", "cpuprofile", "gocoverdir", "memprofile", "mutexprofile", "testlogfile", "trace",
}

// passed are the environment variables, or their prefixes, that tests see.
var passed = []string{"CI=", "GODEBUG=", "GOGC=", "GOMAXPROCS=", "GOMEMLIMIT=", "GORACE=", "GOTRACEBACK=", "MOORING_"}

// dropped are for this command itself. In the machine the kernel is the one to
// use.
var dropped = []string{"MOORING_KERNEL=", "MOORING_VM_FILES="}

// testSpec describes the run of a test binary in the machine: at its own path,
// in the package's folder, with the package's testdata.
func testSpec(binary, dir string, args, environ []string) vm.Spec {
	spec := vm.Spec{
		Files:   map[string]string{binary: binary},
		Collect: map[string]string{},
		Argv:    append([]string{binary}, args...),
		Dir:     dir,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		// go test has its own deadline, -test.timeout, unless told otherwise.
		Timeout: 24 * time.Hour,
		Network: true,
	}
	if testdata := filepath.Join(dir, "testdata"); exists(testdata) {
		spec.Files[testdata] = testdata
	}
	for _, file := range wantedFiles(environ) {
		spec.Files[file] = file
	}
	spec.Env = testEnvironment(environ)
	for _, arg := range args {
		if deadline, ok := strings.CutPrefix(arg, "-test.timeout="); ok {
			spec.Timeout = machineDeadline(deadline, spec.Timeout)
		}
		if file, ok := outputFile(arg, dir); ok {
			spec.Collect[file] = file
			if info, err := os.Stat(file); err == nil && info.IsDir() {
				spec.Files[file] = file // -test.gocoverdir must exist
			}
		}
	}
	return spec
}

// machineDeadline leaves a test binary the time to report its own timeout.
func machineDeadline(flag string, otherwise time.Duration) time.Duration {
	deadline, err := time.ParseDuration(flag)
	if err != nil || deadline <= 0 {
		return otherwise
	}
	return deadline + 2*time.Minute
}

// outputFile is the absolute path of the file that a flag names for writing.
func outputFile(arg, dir string) (string, bool) {
	name, value, ok := strings.Cut(arg, "=")
	name, isTest := strings.CutPrefix(name, "-test.")
	if !ok || !isTest || value == "" || !slices.Contains(written, name) {
		return "", false
	}
	if !filepath.IsAbs(value) {
		value = filepath.Join(dir, value)
	}
	return value, true
}

func wantedFiles(environ []string) []string {
	for _, variable := range environ {
		if list, ok := strings.CutPrefix(variable, "MOORING_VM_FILES="); ok && list != "" {
			return filepath.SplitList(list)
		}
	}
	return nil
}

func testEnvironment(environ []string) []string {
	var kept []string
	for _, variable := range environ {
		if hasPrefix(variable, passed) && !hasPrefix(variable, dropped) {
			kept = append(kept, variable)
		}
	}
	return kept
}

func hasPrefix(variable string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(variable, p) })
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
