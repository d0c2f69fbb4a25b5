package main

import (
	"runtime/debug"

	"github.com/coredns/caddy"
)

// releaseOnceStarted gives memory back when a server has started, which is when the
// plugin has read the cluster: by then the initializers of all plugins have run and every
// object has been decoded, and most of what that took is not needed again.
func releaseOnceStarted() {
	caddy.RegisterEventHook("release-memory", func(event caddy.EventName, _ any) error {
		if event == caddy.InstanceStartupEvent {
			debug.FreeOSMemory()
			releaseProgram()
		}
		return nil
	})
}
