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
	// File is the path of the configuration file; empty if there is none.
	File string
	// Source is "kubernetes" or "manifests:PATH".
	Source string
	// Kubeconfig is the path of a kubeconfig file, Master the URL of the API server;
	// with neither the service account of the pod is used.
	Kubeconfig string
	Master     string
	// ContentType and AcceptContentTypes are the encodings of objects.
	ContentType        string
	AcceptContentTypes string
	// QPS and Burst limit the requests to the API server.
	QPS   float32
	Burst int
	// Node is the name of this node's Node object.
	Node string
	// NodeIP goes before the addresses of the Node object; invalid if it is not given.
	NodeIP netip.Addr
	// HealthzAddress and MetricsAddress are host:port; empty switches the server off.
	HealthzAddress string
	MetricsAddress string
	// BindHardFail has the process end when one of these addresses cannot be had.
	BindHardFail bool
	// Profiling has the metrics server offer /debug/pprof/.
	Profiling bool
	// DetectLocal says which sources count as pods.
	DetectLocal DetectLocal
	// NodePortAddresses says which of the node's addresses serve NodePorts.
	NodePortAddresses NodePortAddresses
	// LocalhostNodePorts has NodePorts answer on loopback.
	LocalhostNodePorts bool
	// ExternalIPs has the externalIPs of Services served.
	ExternalIPs bool
	// MasqueradeAll gives all traffic to Services the node's address.
	MasqueradeAll bool
	// MasqueradeMark is the one bit of the packet mark that asks for it.
	MasqueradeMark uint32
	// Scheduler is the IPVS scheduler of every virtual server.
	Scheduler string
	// SyncPeriod is half the time after which a change that waits counts as trouble.
	SyncPeriod time.Duration
	// TCPTimeout, TCPFinTimeout and UDPTimeout are IPVS's timeouts; 0 leaves the kernel's.
	TCPTimeout    time.Duration
	TCPFinTimeout time.Duration
	UDPTimeout    time.Duration
	// Conntrack is what to set of the kernel's connection tracking.
	Conntrack Conntrack
	// OOMScoreAdj is how readily the kernel kills this process when memory runs out.
	OOMScoreAdj int
	// DrainTimeout is how long an endpoint that leaves may keep its TCP connections.
	DrainTimeout time.Duration
	// DrainLedger is the file that keeps, beyond the process, which endpoints are leaving; empty
	// for none.
	DrainLedger string
	// AuditPeriod is how often the kernel is read back; 0 means never.
	AuditPeriod time.Duration
	// EndpointMetrics has metrics of each endpoint.
	EndpointMetrics bool
	// ServiceProxyName is the value of the label service.kubernetes.io/service-proxy-name that
	// the Services to be served have; empty stands for those without it.
	ServiceProxyName string
	// WatchAuditPeriod is how often what the API server says is compared with what its watches have
	// said; 0 means never.
	WatchAuditPeriod time.Duration
	// Snapshot is the file that keeps the last known objects, empty for none;
	// SnapshotMaxAge is how old they may be to begin with.
	Snapshot       string
	SnapshotMaxAge time.Duration
	// AdoptKubeProxy has what kube-proxy has left on the node taken over and removed.
	AdoptKubeProxy bool
	// Mark is the one bit of the packet mark that diverts a packet to this host, Table the
	// route table it is looked up in, RulePriority the place of the rule that says so; 0
	// leaves the data plane's defaults.
	Mark         uint32
	Table        int
	RulePriority int
	// Verbosity is kube-proxy's -v: above 3 debug lines are logged.
	Verbosity int
	// LogFormat is "text" or "json".
	LogFormat string
	// Configz is all of this as JSON for people to look at, Flags the command line's flags, given
	// or not, as text.
	Configz []byte
	Flags   map[string]string
	// Version is the program's.
	Version string
}

// DetectLocal says how to tell the pods of this node, or of the cluster, from the rest.
type DetectLocal struct {
	// Mode is one of the constants below.
	Mode string
	// PodCIDRs are the pods' addresses in mode ClusterCIDR; none means that nothing is known.
	PodCIDRs []netip.Prefix
	// Bridge is the interface that pods' packets come from in mode BridgeInterface,
	// InterfacePrefix the beginning of their names in mode InterfaceNamePrefix.
	Bridge          string
	InterfacePrefix string
}

// The modes of DetectLocal, as the configuration file spells them.
const (
	ClusterCIDR         = "ClusterCIDR"
	NodeCIDR            = "NodeCIDR"
	BridgeInterface     = "BridgeInterface"
	InterfaceNamePrefix = "InterfaceNamePrefix"
)

// Conntrack is what to set of the kernel's connection tracking; 0 leaves what is there.
type Conntrack struct {
	// MaxPerCore times the number of processors, but at least Min, is the number of
	// connections that shall fit; without MaxPerCore Min does not count.
	MaxPerCore, Min              int
	TCPEstablished, TCPCloseWait time.Duration
	UDP, UDPStream               time.Duration
	// TCPBeLiberal takes packets outside the window for valid.
	TCPBeLiberal bool
}

// schedulers are those of Linux 6.12 (net/netfilter/ipvs/Kconfig).
var schedulers = []string{"rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"}

// checkChoices says what is wrong with fields that take one of a few values.
func (s *settings) checkChoices() error {
	local := s.DetectLocalMode
	switch {
	case s.source != "kubernetes" && !strings.HasPrefix(s.source, "manifests:"):
		return fmt.Errorf("--source %q: use kubernetes or manifests:PATH", s.source)
	case s.snapshot != "" && s.source != "kubernetes":
		return fmt.Errorf("--snapshot %s: only for --source kubernetes; manifests are on disk already", s.snapshot)
	case s.adoptKubeProxy && s.serviceProxyName != "":
		return fmt.Errorf("--adopt-kube-proxy and --service-proxy-name %q: a mooring-proxy that serves labelled Services alone leaves the others to kube-proxy, "+
			"whose virtual servers and rules --adopt-kube-proxy takes away; give one of the two", s.serviceProxyName)
	case s.node == "":
		return fmt.Errorf("the node's name is empty: give --hostname-override or hostnameOverride")
	case !slices.Contains(schedulers, s.IPVS.Scheduler):
		return fmt.Errorf("ipvs.scheduler %q: use one of %s", s.IPVS.Scheduler, strings.Join(schedulers, ", "))
	case s.Logging.Format != "text" && s.Logging.Format != "json":
		return fmt.Errorf("logging.format %q: use text or json", s.Logging.Format)
	case !slices.Contains([]string{ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix}, string(local)):
		return fmt.Errorf("detectLocalMode %q: use ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix", local)
	case local == BridgeInterface && s.DetectLocal.BridgeInterface == "":
		return fmt.Errorf("detectLocalMode BridgeInterface needs detectLocal.bridgeInterface")
	case local == InterfaceNamePrefix && s.DetectLocal.InterfaceNamePrefix == "":
		return fmt.Errorf("detectLocalMode InterfaceNamePrefix needs detectLocal.interfaceNamePrefix")
	}
	return nil
}

// resolve makes a Config of checked settings.
func (s *settings) resolve() (Config, error) {
	if err := s.check(); err != nil {
		return Config{}, err
	}
	f := &s.KubeProxyConfiguration
	c := Config{
		Source: s.source, Kubeconfig: f.ClientConnection.Kubeconfig, Master: s.master,
		ContentType: f.ClientConnection.ContentType, AcceptContentTypes: f.ClientConnection.AcceptContentTypes,
		QPS: f.ClientConnection.QPS, Burst: int(f.ClientConnection.Burst), Node: s.node,
		ServiceProxyName: s.serviceProxyName,
		HealthzAddress:   f.HealthzBindAddress, MetricsAddress: f.MetricsBindAddress,
		BindHardFail: f.BindAddressHardFail, Profiling: f.EnableProfiling,
		MasqueradeAll: f.IPTables.MasqueradeAll, MasqueradeMark: 1 << *f.IPTables.MasqueradeBit,
		Scheduler: f.IPVS.Scheduler, SyncPeriod: f.IPVS.SyncPeriod.Duration,
		TCPTimeout: f.IPVS.TCPTimeout.Duration, TCPFinTimeout: f.IPVS.TCPFinTimeout.Duration, UDPTimeout: f.IPVS.UDPTimeout.Duration,
		OOMScoreAdj: int(*f.OOMScoreAdj), DrainTimeout: s.drainTimeout, DrainLedger: s.drainLedger, AuditPeriod: s.auditPeriod,
		EndpointMetrics: s.endpointMetrics, WatchAuditPeriod: s.watchAuditPeriod,
		Snapshot: s.snapshot, SnapshotMaxAge: s.snapshotMaxAge,
		AdoptKubeProxy: s.adoptKubeProxy, Mark: s.mark, Table: s.table, RulePriority: s.rulePriority,
		Verbosity: int(f.Logging.Verbosity), LogFormat: f.Logging.Format,
		Conntrack: s.conntrack(),
	}
	if ip := netip.MustParseAddr(f.BindAddress).Unmap(); !ip.IsUnspecified() {
		c.NodeIP = ip
	}
	allowed, said := f.FeatureGates[externalIPs]
	c.ExternalIPs = allowed || !said
	var err error
	if c.DetectLocal, err = s.detectLocal(); err != nil {
		return Config{}, err
	}
	if c.NodePortAddresses, err = nodePortAddresses(f.NodePortAddresses); err != nil {
		return Config{}, err
	}
	c.LocalhostNodePorts = *f.IPTables.LocalhostNodePorts && c.NodePortAddresses.loopback()
	c.Configz, err = s.json()
	return c, err
}

func (s *settings) conntrack() Conntrack {
	f := &s.Conntrack
	return Conntrack{
		MaxPerCore: int(*f.MaxPerCore), Min: int(*f.Min),
		TCPEstablished: f.TCPEstablishedTimeout.Duration, TCPCloseWait: f.TCPCloseWaitTimeout.Duration,
		UDP: f.UDPTimeout.Duration, UDPStream: f.UDPStreamTimeout.Duration, TCPBeLiberal: f.TCPBeLiberal,
	}
}

// detectLocal takes what belongs to the mode; what belongs to other modes is kept out.
func (s *settings) detectLocal() (DetectLocal, error) {
	d := DetectLocal{Mode: string(s.DetectLocalMode)}
	switch d.Mode {
	case BridgeInterface:
		d.Bridge = s.DetectLocal.BridgeInterface
	case InterfaceNamePrefix:
		d.InterfacePrefix = s.DetectLocal.InterfaceNamePrefix
	case ClusterCIDR:
		if s.ClusterCIDR == "" {
			break
		}
		var err error
		if d.PodCIDRs, err = prefixes("clusterCIDR", strings.Split(s.ClusterCIDR, ",")); err != nil {
			return DetectLocal{}, err
		}
	}
	return d, nil
}
