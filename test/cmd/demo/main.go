// Command demo plays the story of one Service, by name and by address, on a real kernel:
//
//	go run ./test/cmd/demo [--source=manifests|kubernetes]
//
// It exits with 0 only if every answer in it was right.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/mooring-project/mooring/test/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	status, err := run(ctx, os.Args[1:])
	if ctx.Err() != nil {
		err, status = errors.New("demo: interrupted"), 130
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (int, error) {
	options := demo.Options{Stdout: os.Stdout, Stderr: os.Stderr}
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	flags.StringVar((*string)(&options.Source), "source", string(demo.Manifests), "where the objects live: manifests, or kubernetes for a real control plane")
	flags.StringVar(&options.BinDir, "bin", "", "directory of built programs; empty builds them")
	flags.IntSliceVar(&options.Steps, "steps", nil, "numbers of the steps to play besides the first; all by default")
	flags.BoolVar(&options.NoProxy, "no-proxy", false, "leave mooring-proxy out, to see what it is for")
	flags.BoolVar(&options.NoDNS, "no-dns", false, "leave mooring-dns out, to see what it is for")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0, nil
		}
		return 2, err
	}
	return demo.Run(ctx, options)
}
