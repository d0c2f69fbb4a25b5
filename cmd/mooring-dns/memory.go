package main

import (
	"os"
	"runtime/debug"

	"github.com/coredns/caddy"
)

// gcPercent is how much garbage a server under load may make before it is collected, in
// percent of what it needs. Half of the Go default's collections cost a tenth of a hit and
// a fifth of a large answer less, for memory that an idle server does not take.
const gcPercent = 200

// collectLessOften sets gcPercent, unless the environment says how often to collect.
func collectLessOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// releaseOnceStarted gives memory back when a server has started, which is when the
// plugin has read the cluster: by then the initializers of all plugins have run and every
// object has been decoded, and most of what that took is not needed again.
func releaseOnceStarted() {
	caddy.RegisterEventHook("release-memory", func(event caddy.EventName, _ any) error {
		if event == caddy.InstanceStartupEvent {
			debug.FreeOSMemory()
		}
		return nil
	})
}
