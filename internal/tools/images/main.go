// Command images builds the container images of mooring-dns and mooring-proxy as archives that
// `ctr images import`, `docker load` and `kind load image-archive` take. It needs the Go
// toolchain alone: no daemon, no base image, nothing pulled. Two builds of one commit by one
// version of Go give the same octets.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	source := flag.String("source", ".", "the `directory` of the repository")
	out := flag.String("out", "bin/images", "the `directory` that receives the archives")
	version := flag.String("version", "dev", "the images' tag, and what the programs say as their version")
	architectures := flag.String("arch", "amd64,arm64", "the architectures, separated by commas")
	flag.Parse()
	when, err := created(ctx, *source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for _, architecture := range strings.Split(*architectures, ",") {
		for _, r := range recipes {
			path := filepath.Join(*out, r.name+"-"+architecture+".tar")
			digest, err := build(ctx, order{recipe: r, source: *source, version: *version, architecture: architecture, created: when}, path)
			if err != nil {
				return fmt.Errorf("image %s for %s: %w", r.name, architecture, err)
			}
			fmt.Println(path, r.reference(*version), digest)
		}
	}
	return nil
}

// created gives the time that the images bear: SOURCE_DATE_EPOCH (reproducible-builds.org), or that
// of the commit, so that it does not depend on when they are built.
func created(ctx context.Context, source string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		command := exec.CommandContext(ctx, "git", "-C", source, "log", "-1", "--format=%ct")
		output, err := command.Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("time of the commit: %w; outside a git checkout set SOURCE_DATE_EPOCH", err)
		}
		text = strings.TrimSpace(string(output))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
