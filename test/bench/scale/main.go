package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/bench/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	out := f.String("out", "", "also write the table to this `file`")
	sizes := f.String("sizes", "1000,10000,100000", "numbers of Services")
	endpoints := f.Int("endpoints", 10, "endpoints of each Service")
	changes := f.Int("changes", 2000, "endpoints that come and go at each size")
	seed := f.Uint64("seed", 1, "of the choice of Services that change")
	if err := f.Parse(args); err != nil {
		return err
	}
	var all []figures
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || n > 1<<20 {
			return fmt.Errorf("-sizes %q: numbers from 1 to a million, as 1000,10000", *sizes)
		}
		fmt.Fprintf(os.Stderr, "%d Services\n", n)
		measured, err := measure(n, *endpoints, *changes, *seed)
		if err != nil {
			return err
		}
		all = append(all, measured)
	}
	r := &report.Report{Copy: os.Stdout}
	write(r, all, report.Command("bench-scale", args, "-out"))
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(r.String()), 0o644)
}

func write(r *report.Report, all []figures, command string) {
	r.Printf("# Beyond the size of one machine\n\n")
	r.Printf("`%s`, %s, %s, %s.\n\n", command, time.Now().UTC().Format(time.DateOnly), runtime.Version(), report.Processor())
	r.Printf("A generator plays the API server and nobody the kernel: what is measured are the state, the planner and the loop of `mooring-proxy`, of one\n")
	r.Printf("node, in one process with the generator. A change is one endpoint that comes or goes, of a Service chosen at random, from the commit of its\n")
	r.Printf("EndpointSlice until its one operation has been handed to the kernel. Memory is the live heap, processor time\n")
	r.Printf("that of the whole process.\n\n")
	r.Printf("| Services | endpoints | objects | plan and what is applied | processor time to plan all | a change, median | p99 | allocations | octets |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range all {
		r.Printf("| %d | %d | %d MiB | %d MiB | %s | %.0f us | %.0f us | %.1f | %.0f |\n", f.services, f.endpoints, f.objects>>20, f.plan>>20,
			f.all.Round(time.Millisecond), f.median*1e6, f.p99*1e6, f.allocations, f.octets)
	}
	first, last := all[0], all[len(all)-1]
	r.Printf("\nFrom %d to %d Services, %d times as many: a change takes %.2f times as long (median) and %.2f times as many allocations. What grows is the depth\n",
		first.services, last.services, last.services/first.services, last.median/first.median, last.allocations/first.allocations)
	r.Printf("of the trie of Services, by a level each time there are 16 times as many, and misses of the processor's caches.\n")
}
