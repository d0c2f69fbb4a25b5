package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/bench/report"
	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/vm"
)

// head says when, where and how the figures came about.
type head struct {
	at                              time.Time
	args                            []string
	order                           measured.Order
	load, plot, machine, kernel     string
	mooringVersion, upstreamVersion string
}

func (h *head) describe(ctx context.Context, control *controlplane.ControlPlane) error {
	kernel, why, err := vm.Choose()
	if err != nil {
		return err
	}
	h.machine = fmt.Sprintf("%s (%s)", kernel, why)
	version, err := exec.CommandContext(ctx, filepath.Join(control.BinDir(), controlplane.KubeProxy), "--version").Output()
	if err != nil {
		return fmt.Errorf("kube-proxy --version: %w", err)
	}
	h.upstreamVersion = strings.TrimSpace(string(version))
	commit, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	h.mooringVersion = strings.TrimSpace(string(commit))
	return nil
}

// document is written from findings.
type document struct {
	report.Report
	head
	found findings
}

func write(h head, found findings) string {
	d := &document{head: h, found: found}
	d.begin()
	d.targets()
	d.firstSyncs()
	d.changes()
	d.idle()
	d.memory()
	d.traffic()
	return d.String()
}

func (d *document) begin() {
	d.Printf("# mooring-proxy beside kube-proxy: cost\n\n")
	d.Printf("Written by `make bench-proxy` on %s.\n\n", d.at.UTC().Format("2006-01-02 15:04 UTC"))
	d.Printf("- host: %s, %d cores, Linux %s, load average before: %s\n", report.Processor(), runtime.NumCPU(), report.FirstLine("/proc/sys/kernel/osrelease"), d.load)
	d.Printf("- kernel of the subjects: Linux %s, %s, one boot for all figures\n", d.kernel, d.machine)
	d.Printf("- mooring-proxy `%s`; kube-proxy of %s, modes ipvs and nftables, with the shortest `minSyncPeriod` it takes\n", d.mooringVersion, d.upstreamVersion)
	d.Printf("- command: `%s`\n", report.Command("bench-proxy", d.args, "-out"))
	d.Printf("- an API server on the host with N Services of %d endpoints each, besides default/kubernetes, a DNS Service and one whose endpoint moves;\n  each subject in turn on a new node (network namespace), with its default `syncPeriod`\n", d.order.Endpoints)
	d.Printf("- emulation makes everything 5 to 10 times slower than it is on hardware, and noisy: compare the ratios. \"to ours\" is to mooring-proxy's figure beside as many Services\n\n")
	d.Printf("![first sync, one change, CPU of one change and memory by number of Services](%s)\n\n", d.plot)
}

// target is what was promised, and what it is.
type target struct {
	text      string
	have, may float64 // may is the most, or the least if atLeast
	atLeast   bool
	unit      string
}

func (d *document) targets() {
	const small = 100
	large := d.order.Sizes[len(d.order.Sizes)-1]
	f := d.found
	ratio := func(a, b float64) float64 {
		if b == 0 {
			return 0
		}
		return a / b
	}
	ours := peers.Mooring
	all := []target{
		{"one change, p99", f.change(ours, large, 99), 50, false, "ms"},
		{fmt.Sprintf("one change, p50, to that beside %d Services", small), ratio(f.change(ours, large, 50), f.change(ours, small, 50)), 1.2, false, ""},
		{fmt.Sprintf("one change, p99, to that beside %d Services", small), ratio(f.change(ours, large, 99), f.change(ours, small, 99)), 1.2, false, ""},
		{"first sync of kube-proxy nftables to ours", ratio(f.firstSync(peers.KubeProxyNFTables, large), f.firstSync(ours, large)), 10, true, ""},
		{"CPU of one change of kube-proxy ipvs to ours", ratio(f.changeCPU(peers.KubeProxyIPVS, large), f.changeCPU(ours, large)), 100, true, ""},
		{"CPU of one change of kube-proxy nftables to ours", ratio(f.changeCPU(peers.KubeProxyNFTables, large), f.changeCPU(ours, large)), 100, true, ""},
		{"resident memory", f.steady(ours, large), 60, false, "MiB"},
		{"peak of a relist to that", f.relistRatio(ours, large), 1.3, false, ""},
	}
	d.Printf("## Targets, beside %d Services\n\n| what | measured | target | |\n|---|---:|---:|---|\n", large)
	for _, t := range all {
		d.Printf("%s\n", t)
	}
	d.Printf("\n")
}

func (t target) String() string {
	bound, verdict := "at most", "met"
	if t.atLeast {
		bound = "at least"
	}
	if t.have > t.may != t.atLeast {
		verdict = "missed"
	}
	have := strings.TrimSpace(number(t.have) + " " + t.unit)
	if t.have == 0 {
		have, verdict = "", "not measured"
	}
	return fmt.Sprintf("| %s | %s | %s %s | %s |", t.text, have, bound, strings.TrimSpace(number(t.may)+" "+t.unit), verdict)
}

// number has three digits that count at least.
func number(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

// toOurs is a figure in multiples of mooring-proxy's; empty if one of them is missing.
func toOurs(theirs, ours float64) string {
	if theirs == 0 || ours == 0 {
		return ""
	}
	return number(theirs / ours)
}

// rows calls a function for every subject beside each number of Services; floor adds one.
func (d *document) rows(floor bool, row func(s peers.Subject, services int)) {
	for _, services := range d.order.Sizes {
		if floor {
			row(measured.Floor, services)
		}
		for _, s := range d.order.Subjects {
			row(s, services)
		}
	}
}

func (d *document) firstSyncs() {
	d.Printf("## First sync\n\nFrom the start of the process, in a kernel that has nothing of it, until connections to default/kubernetes and to the DNS Service are\n" +
		"answered, and until those to a sample of the Services are and its own metrics say that nothing is left to be done. Medians; in brackets\n" +
		"the lowest and highest. Every Service is asked once afterwards. CPU is user and system time of the process and its children. Netlink\n" +
		"messages are those of a start of its own; batches of more than 4 MiB cannot be listened to and are missing. \"" + string(measured.Floor) + "\" is a\n" +
		"client of the bench, which runs already, until it has read all Services and EndpointSlices.\n\n")
	d.Printf("| Services | subject | default/kubernetes s | DNS s | all s | to ours | CPU s | to ours | programs run | netlink requests | replies | unanswered |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	d.rows(true, func(s peers.Subject, services int) {
		runs := d.found.of(s, services, false)
		first := func(figure func(measured.FirstSync) float64) float64 {
			return runs.median(func(r measured.Run) float64 { return figure(r.First) })
		}
		kubernetes, dns := first(func(f measured.FirstSync) float64 { return seconds(f.Kubernetes) }), first(func(f measured.FirstSync) float64 { return seconds(f.DNS) })
		all, cpu := d.found.firstSync(s, services), d.found.firstCPU(s, services)
		if len(runs) == 0 {
			return
		}
		if s == measured.Floor {
			d.Printf("| %d | %s | | | %s | %s | | | | | | |\n", services, s, number(all), toOurs(all, d.found.firstSync(peers.Mooring, services)))
			return
		}
		if all == 0 {
			d.Printf("| %d | %s | %s | %s | not within %s | | | | | | | |\n", services, s, d.within(kubernetes), d.within(dns), d.order.Limit)
			return
		}
		times := report.Column(runs, func(r measured.Run) float64 { return seconds(r.First.All) })
		unanswered := 0
		for _, run := range runs {
			unanswered += run.First.Unanswered
		}
		d.Printf("| %d | %s | %s | %s | %s (%s-%s) | %s | %s | %s | %.0f | %s | %d |\n", services, s, number(kubernetes), number(dns),
			number(all), number(times[0]), number(times[len(times)-1]), toOurs(all, d.found.firstSync(peers.Mooring, services)),
			number(cpu), toOurs(cpu, d.found.firstCPU(peers.Mooring, services)),
			report.Median(report.Column(runs, func(r measured.Run) float64 { return float64(r.First.Execs) })),
			messages(d.found.of(s, services, true), func(r measured.Run) []measured.Use { return []measured.Use{r.First.Use} }), unanswered)
	})
	d.Printf("\n")
}

// within is a time that may have been too long.
func (d *document) within(seconds float64) string {
	if seconds == 0 {
		return "not within " + d.order.Limit.String()
	}
	return number(seconds)
}

// messages gives the cells of netlink requests and replies on the average of what the runs give.
func messages(runs findings, of func(measured.Run) []measured.Use) string {
	var requests, replies, n float64
	for _, run := range runs {
		for _, use := range of(run) {
			if use.Netlink == nil {
				continue
			}
			requests += float64(use.Netlink.Requests)
			replies += float64(use.Netlink.Replies)
			n++
		}
	}
	if n == 0 {
		return " | "
	}
	return fmt.Sprintf("%.0f | %.0f", requests/n, replies/n)
}

func (d *document) changes() {
	d.Printf("## One change\n\nThe one endpoint of a Service is replaced, by a write of its EndpointSlice from inside the machine, when the subject is at rest: from before the write\n"+
		"until a connection through the Service's address reaches the new endpoint (asked every 2 ms, later every 2%% of the time so far). CPU is that of\n"+
		"the process and its children from the write until it is at rest again. \"%s\" is a client of the bench that hears of the same write.\n\n", measured.Floor)
	d.Printf("| Services | subject | p50 ms | p99 ms | changes | p50 to ours | CPU ms | to ours | programs run | netlink requests | replies | connections failed |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	d.rows(true, d.change)
	d.Printf("\n")
}

func (d *document) change(s peers.Subject, services int) {
	changes, late := d.found.of(s, services, false).changes()
	if late > 0 {
		d.Printf("| %d | %s | %d of %d not within %s | | | | | | | | | |\n", services, s, late, late+len(changes), d.order.ChangeLimit)
		return
	}
	if len(changes) == 0 {
		return
	}
	p50, cpu := d.found.change(s, services, 50), d.found.changeCPU(s, services)
	d.Printf("| %d | %s | %s | %s | %d | %s |", services, s, number(p50), number(d.found.change(s, services, 99)), len(changes), toOurs(p50, d.found.change(peers.Mooring, services, 50)))
	if s == measured.Floor {
		d.Printf(" | | | | | |\n")
		return
	}
	asked, failed := 0, 0
	for _, c := range changes {
		asked, failed = asked+c.Asked, failed+c.Failed
	}
	heard := d.found.of(s, services, true)
	d.Printf(" %s | %s | %s | %s | %d of %d |\n", number(cpu), toOurs(cpu, d.found.changeCPU(peers.Mooring, services)),
		number(report.Median(report.Column(changes, func(c measured.Change) float64 { return float64(c.Execs) }))),
		messages(heard, func(r measured.Run) (uses []measured.Use) {
			for _, c := range r.Changes {
				uses = append(uses, c.Use)
			}
			return uses
		}), failed, asked)
}

func (d *document) idle() {
	d.Printf("## Without changes\n\nIn %s in which nothing changes in the API or the kernel.\n\n", d.order.Idle)
	d.Printf("| Services | subject | CPU ms | programs run | netlink requests | replies |\n|---:|---|---:|---:|---:|---:|\n")
	d.rows(false, func(s peers.Subject, services int) {
		idle := func(r measured.Run) []measured.Use {
			if r.Idle == nil {
				return nil
			}
			return []measured.Use{*r.Idle}
		}
		runs := slices.DeleteFunc(d.found.of(s, services, false), func(r measured.Run) bool { return r.Idle == nil })
		if len(runs) == 0 {
			return
		}
		d.Printf("| %d | %s | %s | %d | %s |\n", services, s, number(runs.median(func(r measured.Run) float64 { return ms(r.Idle.CPU) })), runs[0].Idle.Execs, messages(d.found.of(s, services, true), idle))
	})
	d.Printf("\n")
}

func (d *document) memory() {
	d.Printf("## Resident memory\n\nMiB of the process itself, from /proc; the programs it runs are not counted. Steady is after the time without changes. The relist is that after the API\nserver has been started anew.\n\n")
	d.Printf("| Services | subject | peak of the first sync | steady | to ours | peak of a relist | to steady |\n|---:|---|---:|---:|---:|---:|---:|\n")
	d.rows(false, func(s peers.Subject, services int) {
		steady := d.found.steady(s, services)
		if steady == 0 {
			return
		}
		every := append(d.found.of(s, services, false), d.found.of(s, services, true)...)
		relist := every.median(func(r measured.Run) float64 {
			if r.Relist == nil {
				return 0
			}
			return r.Relist.Peak
		})
		d.Printf("| %d | %s | %.0f | %.0f | %s | %.0f | %s |\n", services, s, d.found.of(s, services, false).median(func(r measured.Run) float64 { return r.Memory.FirstPeak }),
			steady, toOurs(steady, d.found.steady(peers.Mooring, services)), relist, number(d.found.relistRatio(s, services)))
	})
	d.Printf("\n")
}

func (d *document) traffic() {
	d.Printf("## Connections\n\nA pod connects to Services, and to the same Services' pods by their own addresses, in turn, %d rounds of %s each; every connection asks and is answered once.\n"+
		"Connections per second are of several askers at once, latencies of a single one. Ratios are to the pods' own addresses; medians.\n\n", d.order.TrafficRounds, d.order.Traffic)
	d.Printf("| Services | subject | connections/s | direct | ratio | p50 us | direct | ratio | p99 ratio | failed |\n|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	d.rows(false, func(s peers.Subject, services int) {
		ways := map[bool][]measured.Traffic{}
		failed := 0
		for _, run := range d.found.of(s, services, false) {
			for _, t := range run.Traffic {
				ways[t.Direct] = append(ways[t.Direct], t)
				failed += t.Failed
			}
		}
		if len(ways[false]) == 0 {
			return
		}
		mid := func(direct bool, figure func(measured.Traffic) float64) float64 {
			return report.Median(report.Column(ways[direct], figure))
		}
		rate := func(t measured.Traffic) float64 { return t.PerSecond }
		p50 := func(t measured.Traffic) float64 { return ms(t.P50) * 1000 }
		p99 := func(t measured.Traffic) float64 { return ms(t.P99) * 1000 }
		d.Printf("| %d | %s | %.0f | %.0f | %.2f | %.0f | %.0f | %.2f | %.2f | %d |\n", services, s, mid(false, rate), mid(true, rate), mid(false, rate)/mid(true, rate),
			mid(false, p50), mid(true, p50), mid(false, p50)/mid(true, p50), mid(false, p99)/mid(true, p99), failed)
	})
}
