// Command proxy measures mooring-proxy beside kube-proxy in its modes ipvs and nftables: in one boot
// of the kernel machine, on the same objects from a real API server, each in turn on a node of its
// own. `make bench-proxy` runs it; it writes a document with a plot beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/cluster"
	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/bench/report"
	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/vm"
)

// options are the flags.
type options struct {
	measured.Order
	out, profile string
	timeout      time.Duration
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	subjects := f.String("subjects", join(peers.Subjects), "whom to measure, `names` separated by commas")
	sizes := f.String("sizes", "10,100,1000,10000", "`numbers` of Services in ascending order")
	f.IntVar(&o.Whole, "whole", 1000, "beside fewer Services than this, only first syncs and connections of kube-proxy are measured")
	f.IntVar(&o.Endpoints, "endpoints", 5, "endpoints of each Service")
	f.IntVar(&o.Rounds, "rounds", 3, "starts of each subject at each size for times")
	f.BoolVar(&o.Heard, "heard", true, "one more start for counts of netlink messages")
	f.IntVar(&o.Changes, "changes", 20, "timed changes in each round")
	f.IntVar(&o.HeardChanges, "heard-changes", 3, "counted changes")
	f.DurationVar(&o.Limit, "limit", 10*time.Minute, "longest first sync; who needs more is left out at that size")
	f.DurationVar(&o.ChangeLimit, "change-limit", 2*time.Minute, "longest change")
	f.DurationVar(&o.ChangesLimit, "changes-limit", 10*time.Minute, "no further change of a round is begun after this `time`")
	f.DurationVar(&o.Idle, "idle", 30*time.Second, "how long to watch each subject while nothing changes")
	f.DurationVar(&o.Traffic, "traffic", 2*time.Second, "how long to load each way in a round; 0 for no traffic")
	f.IntVar(&o.TrafficRounds, "traffic-rounds", 3, "rounds of traffic")
	f.BoolVar(&o.Relist, "relist", true, "start the API server anew under each subject")
	f.StringVar(&o.out, "out", "", "also write the document to this `file`, and its plot beside it as .svg")
	f.StringVar(&o.profile, "profile", "", "write profiles of mooring-proxy to this `directory`, which must not exist; they take time themselves")
	f.DurationVar(&o.timeout, "timeout", 4*time.Hour, "give up after this `time`")
	short := f.Bool("short", false, "a quick look: 100 and 1,000 Services, one round, few changes")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *short {
		shorten(f)
	}
	if err := o.parseSubjects(*subjects); err != nil {
		return nil, err
	}
	return o, o.parseSizes(*sizes)
}

func (o *options) parseSubjects(names string) error {
	for name := range strings.SplitSeq(names, ",") {
		if !slices.Contains(peers.Subjects, peers.Subject(name)) {
			return fmt.Errorf("-subjects: %q is none of %s", name, join(peers.Subjects))
		}
		o.Subjects = append(o.Subjects, peers.Subject(name))
	}
	return nil
}

func (o *options) parseSizes(numbers string) error {
	last := 0
	for text := range strings.SplitSeq(numbers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= last || n > cluster.MostServices {
			return fmt.Errorf("-sizes: %q: want numbers from 1 to %d in ascending order", numbers, cluster.MostServices)
		}
		o.Sizes = append(o.Sizes, n)
		last = n
	}
	return nil
}

func join(subjects []peers.Subject) string {
	var names []string
	for _, s := range subjects {
		names = append(names, string(s))
	}
	return strings.Join(names, ",")
}

// shorten replaces what the command line leaves open.
func shorten(f *flag.FlagSet) {
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	quick := map[string]string{
		"sizes": "100,1000", "rounds": "1", "changes": "5", "heard-changes": "2", "limit": "3m",
		"idle": "5s", "traffic": "1s", "traffic-rounds": "1",
	}
	for name, value := range quick {
		if !given[name] {
			_ = f.Set(name, value) // the values above are good
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("bench", "error", err)
		os.Exit(1)
	}
}

// run measures what the arguments ask for and writes the document to out.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	plot := strings.TrimSuffix(o.out, ".md") + ".svg"
	h := head{at: time.Now(), args: args, order: o.Order, load: report.FirstLine("/proc/loadavg"), plot: filepath.Base(plot)}
	found, err := measure(ctx, o, &h, log)
	document := write(h, found)
	// What was measured before something went wrong is shown, but not kept.
	if _, failed := fmt.Fprint(out, document); err != nil || failed != nil || o.out == "" {
		return errors.Join(err, failed)
	}
	return errors.Join(
		os.WriteFile(o.out, []byte(document), 0o644),      //nolint:gosec // a document
		os.WriteFile(plot, []byte(draw(h, found)), 0o644), //nolint:gosec // as above
	)
}

// measure has the machine measure and gives what it has found, with an error what it had found.
func measure(ctx context.Context, o *options, h *head, log io.Writer) (findings, error) {
	host, err := peers.Prepare(ctx, log, "./test/bench/proxy/machine")
	if err != nil {
		return nil, err
	}
	defer host.Stop()
	desk, err := openDesk(ctx, host.Control)
	if err != nil {
		return nil, err
	}
	defer desk.close()
	o.Desk, o.Profile = desk.address(), o.profile != ""
	if err := h.describe(ctx, host.Control); err != nil {
		return nil, err
	}
	order, err := json.Marshal(o.Order)
	if err != nil {
		return nil, err
	}
	printed, writer := io.Pipe()
	ended := make(chan error, 1)
	spec := host.Spec(vm.Spec{
		Argv: []string{peers.Dir + "/machine", string(order)}, MemoryMiB: machineMemory, Timeout: o.timeout, Stdout: writer, Stderr: log,
	})
	if o.Profile {
		spec.Collect = map[string]string{measured.Profiles: o.profile}
	}
	go func() {
		status, err := vm.Run(ctx, spec)
		if err == nil && status != 0 {
			err = fmt.Errorf("the half in the machine ended with status %d", status)
		}
		writer.CloseWithError(err)
		ended <- err
	}()
	found, err := read(printed, h)
	printed.CloseWithError(err)
	return found, errors.Join(err, <-ended)
}

// machineMemory is ample for the programs, which are in it twice, and all that the subjects and
// their children need with 10,000 Services.
const machineMemory = 4096

// read takes in what the machine prints until it ends; with an error, what there was before.
func read(from io.Reader, h *head) (findings, error) {
	var found findings
	for decoder := json.NewDecoder(from); ; {
		var line measured.Line
		err := decoder.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return found, err
		case line.Run != nil:
			found = append(found, *line.Run)
		default:
			h.kernel = line.Kernel
		}
	}
}
