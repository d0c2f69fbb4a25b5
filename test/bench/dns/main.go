package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/test/bench/report"
)

// options are the flags.
type options struct {
	mooring, stock, out    string
	rounds, seconds        int
	services, endpoints    int
	changes                int
	only, sets, servers    string
	profile                string
	settle                 time.Duration
	serverCore, clientCore string
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.mooring, "mooring", "bin/mooring-dns", "mooring-dns `binary`")
	f.StringVar(&o.stock, "stock", "", "stock CoreDNS `binary`")
	f.StringVar(&o.out, "out", "", "also write the tables to this `file`")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of every measurement")
	f.IntVar(&o.seconds, "seconds", 4, "seconds of load in each round")
	f.IntVar(&o.services, "services", 10_000, "Services")
	f.IntVar(&o.endpoints, "endpoints", 5, "endpoints of each Service; three times as many for memory")
	f.IntVar(&o.changes, "changes", 200, "timed API writes of each kind")
	f.DurationVar(&o.settle, "settle", 15*time.Second, "wait before memory is read")
	f.StringVar(&o.only, "only", "load,latency,memory", "what to measure")
	f.StringVar(&o.sets, "sets", "hit A,mix,headless-100", "which questions to ask")
	f.StringVar(&o.servers, "servers", "stock,mooring,floor", "which servers to measure")
	f.StringVar(&o.profile, "profile", "", "write processor and heap profiles of mooring-dns and stock to this `directory`")
	f.StringVar(&o.serverCore, "server-core", "0", "`core` for the server")
	f.StringVar(&o.clientCore, "client-core", "1", "`core` for dnsperf")
	short := f.Bool("short", false, "a quick look: 2 rounds of 1 second, few changes, short waits")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *short {
		shorten(f)
	}
	if o.stock == "" {
		return nil, errors.New("-stock: name the binary of stock CoreDNS (make bench-dns builds one)")
	}
	return o, nil
}

// shorten replaces what the command line leaves open.
func shorten(f *flag.FlagSet) {
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	quick := map[string]string{"rounds": "2", "seconds": "1", "changes": "30", "settle": "6s"}
	for name, value := range quick {
		if !given[name] {
			_ = f.Set(name, value) // the values above are good
		}
	}
}

func main() {
	runtime.LockOSThread() // the servers end with the thread that started them
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, options)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("bench", "error", err)
		os.Exit(1)
	}
}

// bench is one run of the whole.
type bench struct {
	*options
	dir      string
	upstream string
	products []product
	report   report.Report
}

func run(ctx context.Context, o *options) error {
	if strings.Contains(o.only, "load") {
		if err := needDnsperf(); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "bench-dns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	upstream, err := refuseAll()
	if err != nil {
		return err
	}
	defer func() { _ = upstream.Shutdown() }() // the process ends
	b := &bench{options: o, dir: dir, upstream: upstream.PacketConn.LocalAddr().String(), report: report.Report{Copy: os.Stdout}}
	for _, p := range []product{{"stock", o.stock, "kubernetes"}, {"mooring", o.mooring, "mooring"}, {"floor", o.stock, ""}} {
		if strings.Contains(o.servers, p.name) {
			b.products = append(b.products, p)
		}
	}
	b.head()
	if strings.Contains(o.only, "load") || strings.Contains(o.only, "latency") {
		err = b.withCluster(cluster{o.services, o.endpoints}, func(api *apiServer) error { return b.quick(ctx, api) })
	}
	if err == nil && strings.Contains(o.only, "memory") {
		err = b.withCluster(cluster{o.services, 3 * o.endpoints}, func(api *apiServer) error { return b.memory(ctx, api) })
	}
	if err != nil || o.out == "" {
		return err
	}
	return os.WriteFile(o.out, []byte(b.report.String()), 0o644) //nolint:gosec // a document
}

// refuseAll is the upstream, so that nothing leaves this machine.
func refuseAll() (*dns.Server, error) {
	started := make(chan error, 1)
	server := &dns.Server{
		Addr: "127.0.0.1:0", Net: "udp", NotifyStartedFunc: func() { started <- nil },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeRefused)) // the client asks again
		}),
	}
	go func() { started <- server.ListenAndServe() }()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return server, nil
}

func (b *bench) withCluster(c cluster, measure func(*apiServer) error) error {
	api := newAPIServer()
	if err := c.fill(api); err != nil {
		return err
	}
	api.forget()
	if err := api.start(); err != nil {
		return err
	}
	return errors.Join(measure(api), api.stop())
}

// quick measures what needs all servers at once.
func (b *bench) quick(ctx context.Context, api *apiServer) error {
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, p := range b.products {
		settings, err := b.settings(api)
		if err != nil {
			return err
		}
		s, err := startServer(ctx, p, settings, b.dir, b.serverCore)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	if strings.Contains(b.only, "load") {
		if err := b.load(ctx, servers); err != nil {
			return err
		}
	}
	if strings.Contains(b.only, "latency") {
		return b.latency(ctx, api, servers)
	}
	return nil
}

// settings lead to the API server and the upstream; the ports are found later.
func (b *bench) settings(api *apiServer) (s settings, err error) {
	s = settings{API: api.addr, Upstream: b.upstream}
	if b.profile != "" {
		s.Profile, err = freePort()
	}
	return s, err
}

func (b *bench) load(ctx context.Context, servers []*server) error {
	b.report.Printf("\n## Processor time and queries per second\n\n")
	b.report.Printf("Medians of %d rounds of %d s, the servers in turn; in brackets the lowest and highest.\n\n", b.rounds, b.seconds)
	b.report.Printf("| questions | server | CPU us/query | to stock | queries/s | to stock |\n|---|---|---:|---:|---:|---:|\n")
	sets := querySets(cluster{b.services, b.endpoints})
	for i := range sets {
		if !strings.Contains(b.sets, sets[i].name) {
			continue
		}
		if err := b.loadSet(ctx, servers, &sets[i]); err != nil {
			return err
		}
	}
	b.report.Printf("\n")
	for i := range sets {
		b.report.Printf("- %s: %s.\n", sets[i].name, sets[i].about)
	}
	b.report.Printf("\nResident memory after this load, with %d endpoints:", b.services*b.endpoints)
	for _, s := range servers {
		r, err := s.memory()
		if err != nil {
			return err
		}
		b.report.Printf(" %s %.0f MiB.", s.name, r.all)
	}
	b.report.Printf("\n")
	return nil
}

func (b *bench) loadSet(ctx context.Context, servers []*server, set *querySet) error {
	samples := make([][]sample, len(servers))
	for range b.rounds {
		for i, s := range servers {
			finish := b.startProfile(ctx, s, set)
			one, err := dnsperf(ctx, s, set, b.dir, b.clientCore, b.seconds)
			if err := errors.Join(err, finish()); err != nil {
				return err
			}
			samples[i] = append(samples[i], one)
		}
	}
	var stock sample
	for i, s := range servers {
		cpu, qps := report.Column(samples[i], func(s sample) float64 { return s.cpu }), report.Column(samples[i], func(s sample) float64 { return s.qps })
		mid := sample{report.Median(cpu), report.Median(qps)}
		if s.directive == "kubernetes" {
			stock = mid
		}
		b.report.Printf("| %s | %s | %.1f (%.1f-%.1f) | %.2f | %.0f (%.0f-%.0f) | %.2f |\n", set.name, s.name,
			mid.cpu, cpu[0], cpu[len(cpu)-1], mid.cpu/stock.cpu, mid.qps, qps[0], qps[len(qps)-1], mid.qps/stock.qps)
	}
	return nil
}

// startProfile collects a profile during a round, if so asked; the function it gives waits
// for it.
func (b *bench) startProfile(ctx context.Context, s *server, set *querySet) func() error {
	if s.Profile == 0 || s.directive == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	name := filepath.Join(b.profile, s.name+"-"+strings.ReplaceAll(set.name, " ", "-")+".pprof")
	go func() {
		url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", s.Profile, b.seconds)
		done <- download(ctx, url, name)
	}()
	return func() error { return <-done }
}

func download(ctx context.Context, url, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}

func (b *bench) latency(ctx context.Context, api *apiServer, servers []*server) error {
	b.report.Printf("\n## From an API write to the changed answer\n\n")
	b.report.Printf("%d writes of each kind, 10 to 30 ms apart, with %d Services loaded.\n\n", b.changes, b.services)
	b.report.Printf("| change | server | p50 ms | p99 ms | max ms |\n|---|---|---:|---:|---:|\n")
	for _, c := range changes() {
		for _, s := range servers {
			if s.directive == "" {
				continue
			}
			times, err := latencies(ctx, api, s, c, b.changes)
			if err != nil {
				return err
			}
			ms := func(at int) float64 { return float64(times[at].Microseconds()) / 1000 }
			b.report.Printf("| %s | %s | %.2f | %.2f | %.2f |\n", c.name, s.name, ms(len(times)/2), ms(len(times)*99/100), ms(len(times)-1))
		}
	}
	return nil
}

func (b *bench) memory(ctx context.Context, api *apiServer) error {
	b.report.Printf("\n## Resident memory\n\n")
	b.report.Printf("%d Services, %d endpoints; MiB from /proc, %d rounds, medians. Steady is %s after the sync, and of it the part that\nmaps the program itself; the relist is that after an API server was away for a second and answered 410.\n\n",
		b.services, b.services*3*b.endpoints, b.memoryRounds(), b.settle)
	b.report.Printf("| server | peak of the first sync | steady | to stock | of it the program | the rest to stock's | peak of a relist | to steady |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	var stock resident
	for _, p := range b.products {
		var all []footprint
		for range b.memoryRounds() {
			f, err := b.measureMemory(ctx, api, p)
			if err != nil {
				return err
			}
			all = append(all, f)
		}
		sync := report.Median(report.Column(all, func(f footprint) float64 { return f.sync }))
		steady := resident{
			all:  report.Median(report.Column(all, func(f footprint) float64 { return f.steady.all })),
			file: report.Median(report.Column(all, func(f footprint) float64 { return f.steady.file })),
		}
		if p.directive == "kubernetes" {
			stock = steady
		}
		b.report.Printf("| %s | %.0f | %.0f | %.2f | %.0f | %.2f |", p.name, sync, steady.all, steady.all/stock.all,
			steady.file, (steady.all-steady.file)/(stock.all-stock.file))
		if p.directive == "" {
			b.report.Printf(" | |\n")
			continue
		}
		relist := report.Median(report.Column(all, func(f footprint) float64 { return f.relist }))
		b.report.Printf(" %.0f | %.2f |\n", relist, relist/steady.all)
	}
	return nil
}

// memoryRounds is fewer: a round takes a minute, and memory varies little.
func (b *bench) memoryRounds() int { return (b.rounds + 1) / 2 }
