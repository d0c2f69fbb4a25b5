// Command pod is what the node's pods run besides Mooring and busybox: the pause container of
// every pod, a web server, and a client that keeps asking it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  pod pause                       wait for the end
  pod web ADDRESS                 answer every request with the pod's name
  pod load URL ADDRESS            keep asking URL, and tell at ADDRESS how it went
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pause":
		return pause(ctx)
	case len(args) == 2 && args[0] == "web":
		return serveWeb(ctx, args[1])
	case len(args) == 3 && args[0] == "load":
		return load(ctx, args[1], args[2])
	}
	return fmt.Errorf("arguments %q: not understood\n%s", args, usage)
}

// pause is the first process of a pod: it holds the pod's namespaces and buries the children of
// others.
func pause(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}
