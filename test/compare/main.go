// Command compare runs the scenarios against mooring-proxy and against kube-proxy in both of its
// modes, as processes with a real API server on a real kernel, and writes the table of
// docs/comparison.md:
//
//	go run ./test/compare -out docs/comparison.md
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/scenarios/findings"
	"github.com/mooring-project/mooring/test/vm"
)

// options say what is compared; empty lists stand for everything.
type options struct {
	subjects, scenarios, configurations, behaviours string
	timeout                                         time.Duration
	log                                             io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o := options{log: os.Stderr, subjects: allSubjects()}
	out, kept := "", ""
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.StringVar(&out, "out", "", "write the tables to this `file` instead of printing them")
	f.StringVar(&kept, "findings", "", "keep what is found in this `file`, and report of all that is there: for a run of one subject at a time")
	f.StringVar(&o.subjects, "subjects", o.subjects, "`names`, separated by commas")
	f.StringVar(&o.scenarios, "scenarios", "", "only these `files` of test/scenarios/testdata, without .txt")
	f.StringVar(&o.configurations, "configurations", "", "only these `names`")
	f.StringVar(&o.behaviours, "behaviours", "", "only these `names`; none for none")
	f.DurationVar(&o.timeout, "timeout", 40*time.Minute, "give up after this `time`")
	if err := f.Parse(args); err != nil {
		return err
	}
	found, kernel, err := compare(ctx, o)
	if err != nil {
		return err
	}
	if kept != "" {
		if found, err = merge(kept, found); err != nil {
			return err
		}
	}
	args = o.chosen()
	if kept != "" {
		args = append(args, "-findings=FILE, a subject at a time")
	}
	report := write(found, subjectsOf(found), head{kernel: kernel, at: time.Now().UTC(), args: args})
	if out == "" {
		_, err := fmt.Print(report)
		return err
	}
	return os.WriteFile(out, []byte(report), 0o644) //nolint:gosec // a document
}

// merge puts what has been found into a file, in place of what is there of the same subjects, and
// gives all that is there then.
func merge(file string, found []findings.Finding) ([]findings.Finding, error) {
	var all []findings.Finding
	content, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(content, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("findings: %w", err)
	}
	anew := subjectsOf(found)
	all = append(slices.DeleteFunc(all, func(f findings.Finding) bool { return slices.Contains(anew, f.Subject) }), found...)
	if content, err = json.Marshal(all); err != nil {
		return nil, fmt.Errorf("findings: %w", err)
	}
	return all, os.WriteFile(file, content, 0o600)
}

// subjectsOf lists who was looked at, in the order of all.
func subjectsOf(found []findings.Finding) []string {
	var subjects []string
	for _, f := range found {
		if !slices.Contains(subjects, f.Subject) {
			subjects = append(subjects, f.Subject)
		}
	}
	order := func(name string) int { return slices.Index(peers.Subjects, peers.Subject(name)) }
	slices.SortStableFunc(subjects, func(a, b string) int { return order(a) - order(b) })
	return subjects
}

func allSubjects() string {
	var names []string
	for _, s := range peers.Subjects {
		names = append(names, string(s))
	}
	return strings.Join(names, ",")
}

// compare runs everything in one machine and gives what was found there, and its kernel.
func compare(ctx context.Context, o options) (all []findings.Finding, kernel string, err error) {
	h, err := peers.Prepare(ctx, o.log, "./test/scenarios_test")
	if err != nil {
		return nil, "", fmt.Errorf("compare: %w", err)
	}
	defer h.Stop()
	root, err := peers.Repository(ctx)
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	const guestResult, guestKernel = "/run/findings", "/run/findings.kernel"
	result, release := filepath.Join(dir, "findings"), filepath.Join(dir, "kernel")
	status, err := vm.Run(ctx, h.Spec(vm.Spec{
		Files:   map[string]string{peers.Dir + "/testdata": filepath.Join(root, "test/scenarios/testdata")},
		Argv:    []string{peers.Dir + "/scenarios_test", "-test.run=^TestComparison$", "-test.v", "-test.timeout=" + o.timeout.String()},
		Dir:     peers.Dir,
		Env:     o.environment(guestResult),
		Stdout:  o.log,
		Stderr:  o.log,
		Collect: map[string]string{guestResult: result, guestKernel: release},
		Timeout: o.timeout + time.Minute,
	}))
	if err != nil {
		return nil, "", err
	}
	content, err := os.ReadFile(result)
	if status != 0 || err != nil {
		return nil, "", fmt.Errorf("compare: the run in the machine ended with status %d", status)
	}
	name, err := os.ReadFile(release)
	if err != nil {
		return nil, "", fmt.Errorf("compare: kernel: %w", err)
	}
	return all, strings.TrimSpace(string(name)), json.Unmarshal(content, &all)
}

// chosen gives the flags that say what is compared.
func (o options) chosen() (flags []string) {
	for _, f := range []struct{ name, value string }{{"scenarios", o.scenarios}, {"configurations", o.configurations}, {"behaviours", o.behaviours}} {
		if f.value != "" {
			flags = append(flags, fmt.Sprintf("-%s=%q", f.name, f.value))
		}
	}
	return flags
}

func (o options) environment(result string) []string {
	return []string{
		"MOORING_IPVS=required", "MOORING_SUBJECTS=" + o.subjects, "MOORING_SCENARIOS=" + o.scenarios,
		"MOORING_CONFIGURATIONS=" + o.configurations, "MOORING_BEHAVIOURS=" + o.behaviours, "MOORING_FINDINGS=" + result,
	}
}
