//go:build linux

// Command lab plays the story in a little cluster inside this kernel, and is the web
// server and the asking client in the cluster's pods. It needs root and a kernel with
// IPVS; `go run ./test/cmd/demo` brings both.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/story"
)

// The main goroutine keeps the main thread, so that no thread of another namespace is
// ever the one that stands for the process.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (status int, err error) {
	if len(args) == 0 {
		return 2, errors.New("say what: story, web or ask")
	}
	switch args[0] {
	case "web":
		return 0, lab.ServeWeb(ctx, ":80")
	case "ask":
		return 0, lab.WriteTallies(os.Stdout, lab.Ask(ctx, askPause, args[1:]...))
	case "story":
		return playStory(ctx, args[1:])
	}
	return 2, fmt.Errorf("%q: say story, web or ask", args[0])
}

// askPause gives ten requests a second and URL.
const askPause = 100 * time.Millisecond

func playStory(ctx context.Context, args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	options := lab.Options{BinDir: filepath.Dir(self)}
	api := lab.API{}
	flags := pflag.NewFlagSet("lab story", pflag.ContinueOnError)
	flags.StringVar(&api.Upstream, "api-server", "", "host:port of an API server; without one the story works with manifests")
	flags.StringVar(&api.Kubeconfig, "kubeconfig", "", "kubeconfig for that API server")
	flags.BoolVar(&options.NoProxy, "no-proxy", false, "leave mooring-proxy out: the story must fail")
	flags.BoolVar(&options.NoDNS, "no-dns", false, "leave mooring-dns out: the story must fail")
	selection := story.Selection{}
	flags.IntSliceVar(&selection.Steps, "steps", nil, "numbers of the steps to play; all by default")
	flags.DurationVar(&selection.Patience, "patience", 0, "how long a change may take to be seen; a minute by default")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if api.Upstream != "" {
		options.API = &api
	}
	if !lab.Inside() {
		return lab.Isolate(ctx)
	}
	if err := lab.EnterIsolation(); err != nil {
		return 1, err
	}
	return story.Play(ctx, os.Stdout, options, selection)
}
