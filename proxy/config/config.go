// Package config reads what an operator tells mooring-proxy: kube-proxy's configuration file
// and kube-proxy's flags, so that a node's settings need not be written anew.
//
// Of k8s.io it imports the published types of the configuration file alone; it talks to no
// server.
package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is everything mooring-proxy can be told, checked and with defaults applied.
type Config struct {
	// Source is "kubernetes" or "manifests:PATH".
	Source string
	// Kubeconfig is the path of a kubeconfig file, Master the URL of the API server;
	// with neither the service account of the pod is used.
	Kubeconfig string
	Master     string
	// QPS and Burst limit the requests to the API server.
	QPS   float32
	Burst int
	// Node is the name of this node's Node object.
	Node string
	// HealthzAddress and MetricsAddress are host:port; empty switches the server off.
	HealthzAddress string
	MetricsAddress string
	// PodCIDRs are the sources that count as pods (detectLocalMode ClusterCIDR).
	PodCIDRs []netip.Prefix
	// NodePortAddresses restricts the node's addresses that serve NodePorts; empty means
	// all of them.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts has NodePorts answer on loopback.
	LocalhostNodePorts bool
	// MasqueradeAll gives all traffic to Services the node's address.
	MasqueradeAll bool
	// Scheduler is the IPVS scheduler of every virtual server.
	Scheduler string
	// TCPTimeout, TCPFinTimeout and UDPTimeout are IPVS's timeouts; 0 leaves the kernel's.
	TCPTimeout    time.Duration
	TCPFinTimeout time.Duration
	UDPTimeout    time.Duration
	// DrainTimeout is how long an endpoint that leaves may keep its TCP connections.
	DrainTimeout time.Duration
	// Mark is the one bit of the packet mark that diverts a packet to this host, Table the
	// route table it is looked up in, RulePriority the place of the rule that says so; 0
	// leaves the data plane's defaults.
	Mark         uint32
	Table        int
	RulePriority int
	// Verbosity is kube-proxy's -v: above 3 debug lines are logged.
	Verbosity int
}

// Default gives what is used where neither file nor flag says anything.
func Default() Config {
	return Config{
		Source:             "kubernetes",
		QPS:                5,
		Burst:              10,
		HealthzAddress:     "0.0.0.0:10256",
		MetricsAddress:     "127.0.0.1:10249",
		LocalhostNodePorts: true,
		Scheduler:          "rr",
		DrainTimeout:       15 * time.Minute,
	}
}

// schedulers are those of Linux 6.12 (net/netfilter/ipvs/Kconfig).
var schedulers = []string{"rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"}

// Validate says what is wrong with a Config, in the words of the configuration file.
func (c Config) Validate() error {
	switch {
	case c.Source != "kubernetes" && !strings.HasPrefix(c.Source, "manifests:"):
		return fmt.Errorf("--source %q: use kubernetes or manifests:PATH", c.Source)
	case c.Node == "":
		return fmt.Errorf("the node's name is empty: give --hostname-override or hostnameOverride")
	case !slices.Contains(schedulers, c.Scheduler):
		return fmt.Errorf("ipvs.scheduler %q: use one of %s", c.Scheduler, strings.Join(schedulers, ", "))
	case c.DrainTimeout < 0:
		return fmt.Errorf("--drain-timeout %s: must not be negative", c.DrainTimeout)
	}
	return nil
}
