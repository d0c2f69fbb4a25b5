package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// head says when, where and how the figures came about.
func (b *bench) head() {
	b.printf("# mooring-dns against stock CoreDNS\n\n")
	b.printf("Written by `make bench-dns` on %s.\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	b.printf("- machine: %s, %d cores, Linux %s, load average before: %s\n", processor(), runtime.NumCPU(), firstLine("/proc/sys/kernel/osrelease"), firstLine("/proc/loadavg"))
	b.printf("- stock: `%s`\n- mooring: `%s`\n- floor: stock with `whoami` alone\n", version(b.stock), version(b.mooring))
	b.printf("- command: `%s`\n", command(os.Args[1:]))
	b.printf("- server on core %s (`taskset -c %s`), load on core %s: `dnsperf -l %d -c 8 -q 64 -T 1`, over UDP on the loopback interface\n", b.serverCore, b.serverCore, b.clientCore, b.seconds)
	b.printf("- kubeadm's default Corefile, with `kubernetes` and `mooring`; an API server of the bench streams lists in protobuf\n")
	b.printf("- CPU is user and system time of the server process over the queries answered\n")
}

// command gives the way to repeat the run: make finds the programs, so their paths on this machine
// say nothing.
func command(args []string) string {
	var flags []string
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-stock", "-mooring", "-out":
			i++
		default:
			flags = append(flags, args[i])
		}
	}
	if len(flags) == 0 {
		return "make bench-dns"
	}
	return "make bench-dns FLAGS='" + strings.Join(flags, " ") + "'"
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	return string(line)
}

func processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo") // without it the name is unknown
	for line := range strings.Lines(string(content)) {
		if name, found := strings.CutPrefix(line, "model name"); found {
			return strings.Trim(name, " \t:\n")
		}
	}
	return "unknown processor"
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
