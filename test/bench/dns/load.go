package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is one run of dnsperf against one server.
type sample struct {
	// cpu is the server's processor time in microseconds a query, qps its answers a second.
	cpu, qps float64
}

// needDnsperf says how to get what the load is made with, before anything else is measured.
func needDnsperf() error {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		return fmt.Errorf("%w; run: sudo apt-get update && sudo apt-get install --no-install-recommends -y dnsperf, or measure without load: FLAGS='-only latency,memory'", err)
	}
	return nil
}

// dnsperf asks a server a set of questions for some seconds from another core.
func dnsperf(ctx context.Context, s *server, set *querySet, dir, core string, seconds int) (sample, error) {
	file := filepath.Join(dir, strings.ReplaceAll(set.name, " ", "-")+".queries")
	if err := os.WriteFile(file, []byte(strings.Join(set.lines, "\n")+"\n"), 0o600); err != nil {
		return sample{}, err
	}
	args := []string{
		"-c", core, "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(s.DNS), "-d", file,
		"-l", strconv.Itoa(seconds), "-c", "8", "-q", "64", "-T", "1",
	}
	if set.edns {
		args = append(args, "-e")
	}
	before, err := s.cpuTime()
	if err != nil {
		return sample{}, err
	}
	run := exec.CommandContext(ctx, "taskset", args...)
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := run.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	after, err := s.cpuTime()
	if err != nil {
		return sample{}, err
	}
	answered, qps, err := readDnsperf(string(out), set, s.directive != "")
	if err != nil {
		return sample{}, fmt.Errorf("%s, %s: %w\n%s", s.name, set.name, err, out)
	}
	return sample{cpu: float64((after-before)/time.Microsecond) / answered, qps: qps}, nil
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+) \((\d+\.\d+)%\)`)
	perSecond = regexp.MustCompile(`Queries per second:\s+(\d+\.\d+)`)
	nxdomain  = regexp.MustCompile(`NXDOMAIN \d+ \((\d+\.\d+)%\)`)
	unwanted  = regexp.MustCompile(`(SERVFAIL|REFUSED|FORMERR|NOTIMP)`)
)

// readDnsperf reads what dnsperf prints. Wrong answers make a measurement worthless, so
// they are an error, and so are lost ones.
func readDnsperf(out string, set *querySet, real bool) (answered, qps float64, err error) {
	answered, lost := number(completed, out, 1), 100-number(completed, out, 2)
	qps = number(perSecond, out, 1)
	switch missing := number(nxdomain, out, 1) / 100; {
	case answered == 0 || qps == 0:
		return 0, 0, errors.New("no answers")
	case lost > 1:
		return 0, 0, fmt.Errorf("%.1f%% of the queries lost", lost)
	case unwanted.MatchString(out):
		return 0, 0, errors.New("error answers")
	case real && math.Abs(missing-set.nxdomain) > 0.01:
		return 0, 0, fmt.Errorf("%.3f of the names do not exist, want %.3f", missing, set.nxdomain)
	}
	return answered, qps, nil
}

// number gives a group of the first match, 0 if there is none.
func number(pattern *regexp.Regexp, text string, group int) float64 {
	match := pattern.FindStringSubmatch(text)
	if match == nil {
		return 0
	}
	value, _ := strconv.ParseFloat(match[group], 64)
	return value
}
