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
// which go test reads afterwards. (It never caches the result of a run with
// -exec, so there is no log of inputs for it to read.)
var written = []string{
	"blockprofile", "coverprofile", "cpuprofile", "gocoverdir", "memprofile", "mutexprofile", "trace",
}

// passed are the environment variables, or their prefixes, that tests see.
var passed = []string{"CI=", "GODEBUG=", "GOGC=", "GOMAXPROCS=", "GOMEMLIMIT=", "GORACE=", "GOTRACEBACK=", "MOORING_"}

// The variables that are for this command itself; tests do not see them.
const (
	filesVariable   = "MOORING_VM_FILES="
	networkVariable = "MOORING_VM_NETWORK="
	kernelVariable  = "MOORING_KERNEL="
)

var dropped = []string{filesVariable, networkVariable, kernelVariable}

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
		Network: variable(environ, networkVariable) != "",
	}
	if testdata := filepath.Join(dir, "testdata"); exists(testdata) {
		spec.Files[testdata] = testdata
	}
	for _, file := range filepath.SplitList(variable(environ, filesVariable)) {
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

// variable is the value of the variable that the prefix K= names.
func variable(environ []string, prefix string) string {
	for _, v := range environ {
		if value, ok := strings.CutPrefix(v, prefix); ok {
			return value
		}
	}
	return ""
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
