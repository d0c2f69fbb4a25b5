// Command mooring-dns is CoreDNS with the plugin mooring linked in beside every stock
// plugin. Its flags are those of CoreDNS.
package main

import (
	"fmt"
	"runtime/debug"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every stock plugin
	"github.com/coredns/coredns/coremain"
	"github.com/miekg/dns"

	_ "github.com/mooring-project/mooring/plugin"
)

// version is set at link time: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	dnsserver.Directives = directives(dnsserver.Directives)
	caddy.AppName = "mooring-dns"
	caddy.AppVersion = versionText()
	dns.Id = randomID
	collectLessOften()
	releaseOnceStarted()
	coremain.Run()
}

// versionText names our version and that of the CoreDNS we are built on.
func versionText() string {
	own := version
	if own == "" {
		own = "devel"
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			own = info.Main.Version
		}
	}
	return fmt.Sprintf("%s (%s-%s)", own, coremain.CoreName, coremain.CoreVersion)
}
