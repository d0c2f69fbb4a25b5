package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/bench/report"
)

// head says when, where and how the figures came about.
func (b *bench) head() {
	b.report.Printf("# mooring-dns against stock CoreDNS\n\n")
	b.report.Printf("Written by `make bench-dns` on %s.\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	b.report.Printf("- machine: %s, %d cores, Linux %s, load average before: %s\n", report.Processor(), runtime.NumCPU(), report.FirstLine("/proc/sys/kernel/osrelease"), report.FirstLine("/proc/loadavg"))
	b.report.Printf("- stock: `%s`\n- mooring: `%s`\n- floor: stock with `whoami` alone\n", version(b.stock), version(b.mooring))
	b.report.Printf("- command: `%s`\n", report.Command("bench-dns", os.Args[1:], "-stock", "-mooring", "-out"))
	b.report.Printf("- server on core %s (`taskset -c %s`), load on core %s: `dnsperf -l %d -c 8 -q 64 -T 1`, over UDP on the loopback interface\n", b.serverCore, b.serverCore, b.clientCore, b.seconds)
	b.report.Printf("- kubeadm's default Corefile, with `kubernetes` and `mooring`; an API server of the bench streams lists in protobuf\n")
	b.report.Printf("- CPU is user and system time of the server process over the queries answered\n")
}

// version gives the first line of what a binary says of itself.
func version(binary string) string {
	out, err := exec.Command(binary, "-version").Output()
	if err != nil {
		return binary
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
