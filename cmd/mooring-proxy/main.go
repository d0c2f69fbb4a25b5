// Command mooring-proxy serves the addresses of Services on one node with the kernel's IPVS.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/mooring-project/mooring/proxy"
	"github.com/mooring-project/mooring/proxy/config"
)

// version is set by the linker.
var version = "unknown"

// debugFrom is the verbosity from which debug lines are logged, as kube-proxy's -v counts.
const debugFrom = 4

func main() {
	frugal()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	command, err := config.Parse(args)
	switch {
	case config.IsHelp(err):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "mooring-proxy:", err)
		return 2
	case command.Version:
		fmt.Println("mooring-proxy", version)
		return 0
	case command.WriteConfigTo != "":
		return writeConfig(command)
	}
	command.Config.Version = version
	logger := newLogger(command.Config)
	for _, warning := range command.Warnings {
		logger.Warn("configuration", "warning", warning)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := proxy.Do(ctx, command, logger, os.Stdout); err != nil {
		if !errors.Is(err, proxy.ErrDiffers) { // what differs has been printed
			logger.Error("mooring-proxy stops", "err", err)
		}
		return 1
	}
	return 0
}

// writeConfig writes the effective configuration for people who begin a file.
func writeConfig(command config.Command) int {
	if err := os.WriteFile(command.WriteConfigTo, command.File, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "mooring-proxy: --write-config-to:", err)
		return 1
	}
	return 0
}

func newLogger(c config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Verbosity >= debugFrom {
		options.Level = slog.LevelDebug
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
