// Command mooringctl explains what Mooring does with a Service; as kubectl-mooring on the PATH it
// is `kubectl mooring`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/mooring-project/mooring/internal/explain"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

// version is set by the linker.
var version = "unknown"

const usage = `mooringctl explains what Mooring does with a Service.

  mooringctl explain [flags] NAMESPACE/NAME   who serves it, and why the others do not
  mooringctl drains [--proxy=127.0.0.1:10249]   which endpoints of this node are leaving, and how they left
  mooringctl version

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mooringctl:", err)
		os.Exit(1)
	}
}

// options are the flags of explain.
type options struct {
	source     string
	kubeconfig string
	node       string
	timeout    time.Duration
	// proxy is the address of mooring-proxy's metrics server.
	proxy string
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := pflag.NewFlagSet("mooringctl", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&o.source, "source", "kubernetes", "where Services come from: kubernetes, or manifests:PATH")
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "path of a kubeconfig")
	flags.StringVar(&o.node, "node", "", "name of the node to explain for; policies Local and hints depend on it")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for the source")
	flags.StringVar(&o.proxy, "proxy", "127.0.0.1:10249", "address of mooring-proxy's metrics server, for drains")
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage, flags.FlagUsages()) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	switch flags.Arg(0) {
	case "explain":
		return explainService(ctx, o, flags.Args()[1:], out)
	case "drains":
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		return printDrains(ctx, o.proxy, out)
	case "version":
		fmt.Fprintln(out, "mooringctl", version)
		return nil
	case "":
		flags.Usage()
		return errors.New("a command is missing: explain, drains or version")
	}
	return fmt.Errorf("command %q is unknown: use explain, drains or version", flags.Arg(0))
}

// explainService prints the explanation of one Service.
func explainService(ctx context.Context, o options, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("explain takes one Service, as NAMESPACE/NAME")
	}
	namespace, name, found := strings.Cut(args[0], "/")
	if !found || namespace == "" || name == "" {
		return fmt.Errorf("service %q: write it as NAMESPACE/NAME", args[0])
	}
	snapshot, err := read(ctx, o)
	if err != nil {
		return err
	}
	place := policy.Place{Node: o.node}
	if node := snapshot.Node(o.node); node != nil {
		place.Zone = node.Zone
	} else if o.node != "" && o.source == "kubernetes" {
		return fmt.Errorf("node %q does not exist", o.node)
	}
	_, err = io.WriteString(out, explain.Service(snapshot, model.ServiceKey{Namespace: namespace, Name: name}, place))
	return err
}

// read gives the first complete snapshot of the source.
func read(ctx context.Context, o options) (*state.Snapshot, error) {
	source, err := watch.Parse(o.source, watch.KubernetesConfig{
		Kubeconfig: o.kubeconfig, Want: watch.Want{Namespaces: true, Nodes: true}, // What goes wrong is the command's own error.
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	store, done := state.NewStore(), make(chan error, 1)
	go func() { done <- source.Run(ctx, store) }()
	defer func() {
		cancel()
		<-done //nolint:errcheck // a Source ends without an error when its context does
	}()
	for {
		snapshot := store.Load()
		if snapshot.Synced {
			return snapshot, nil
		}
		if err := trouble(source); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("source %s: not read within %s", o.source, o.timeout)
		case <-snapshot.Superseded():
		case <-time.After(troublePoll):
		}
	}
}

// troublePoll is how often the source is asked whether it can be read: a person is waiting, so
// what a daemon would try again is said at once.
const troublePoll = 50 * time.Millisecond

// trouble gives what keeps the source from being read, nil if nothing does.
func trouble(source watch.Source) error {
	for _, kind := range source.Status() {
		if kind.Err != nil {
			return fmt.Errorf("%s: %w", kind.Kind, kind.Err)
		}
	}
	return nil
}
