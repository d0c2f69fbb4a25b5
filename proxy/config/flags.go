package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Command is what the command line asks for.
type Command struct {
	Config Config
	// Warnings are to be logged; none of them stops the start.
	Warnings []string
	// Version asks for the version to be printed and nothing else.
	Version bool
	// Action is what is asked for.
	Action Action
	// WriteConfigTo is a path; if it is set, File is to be written there and nothing else
	// is to be done.
	WriteConfigTo string
	// File is the effective configuration as a configuration file.
	File []byte

	path string
	// cleanup and initOnly are flags that ask for an Action, as kube-proxy has them.
	cleanup, initOnly bool
}

// Action is what mooring-proxy is started for.
type Action uint8

// The actions: to serve, or to do one thing and end.
const (
	// Serve serves until it is told to stop.
	Serve Action = iota
	// Init does what needs most rights.
	Init
	// Plan prints what serving would begin with.
	Plan
	// Verify compares the kernel with what it should be.
	Verify
	// Cleanup removes everything of ours from the kernel.
	Cleanup
)

// actions are the words by which the first argument may ask for an action.
var actions = map[string]Action{"plan": Plan, "verify": Verify, "cleanup": Cleanup}

// Parse reads a command line without the program's name. A flag that is given goes before the
// configuration file; kube-proxy ignores most flags when there is a file.
//
// The first argument may be plan, verify or cleanup.
func Parse(args []string) (Command, error) {
	var command Command
	if len(args) > 0 && actions[args[0]] != Serve {
		command.Action, args = actions[args[0]], args[1:]
	}
	settings := newSettings()
	flags := flagSet(settings, &command)
	if err := flags.Parse(args); err != nil {
		return Command{}, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return Command{}, fmt.Errorf("argument %q: mooring-proxy takes flags, and plan, verify or cleanup before them", rest[0])
	}
	if command.Version {
		return command, nil
	}
	if command.path != "" {
		file, warnings, err := readFile(command.path)
		if err != nil {
			return Command{}, err
		}
		settings, command.Warnings = newSettings(), warnings
		settings.KubeProxyConfiguration = *file
		// The flags once more, over the file: only those that are given change it.
		if err := flagSet(settings, &Command{}).Parse(args); err != nil {
			return Command{}, err
		}
	}
	switch {
	case command.cleanup:
		command.Action = Cleanup
	case command.initOnly:
		command.Action = Init
	}
	settings.usePorts()
	command.Warnings = append(command.Warnings, ignored(&settings.KubeProxyConfiguration)...)
	command.Warnings = append(command.Warnings, ignoredFlags(flags)...)
	err := command.finish(settings)
	command.Config.Flags = flagValues(flags)
	return command, err
}

// flagValues gives all flags as text, as they were given or are by default; the configuration file
// is not looked at.
func flagValues(flags *pflag.FlagSet) map[string]string {
	all := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) { all[f.Name] = f.Value.String() })
	return all
}

// finish fills in what only the running machine knows, and makes the Config.
func (c *Command) finish(s *settings) (err error) {
	s.node = strings.ToLower(strings.TrimSpace(s.HostnameOverride))
	if s.node == "" {
		if s.node, err = os.Hostname(); err != nil {
			return fmt.Errorf("node's name: %w", err)
		}
		s.node = strings.ToLower(s.node)
	}
	s.Mode = "ipvs"
	if c.Config, err = s.resolve(); err != nil {
		return err
	}
	c.Config.File = c.path
	c.File, err = s.yaml()
	return err
}

// flagSet defines the flags on settings, whose values are the defaults.
func flagSet(s *settings, command *Command) *pflag.FlagSet {
	f := pflag.NewFlagSet("mooring-proxy", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&command.path, "config", "", "path of a KubeProxyConfiguration; flags that are given go before it")
	f.StringVar(&command.WriteConfigTo, "write-config-to", "", "write the effective configuration to this file and exit")
	f.BoolVar(&command.cleanup, "cleanup", false, "remove everything of mooring-proxy from the kernel and exit")
	f.BoolVar(&command.initOnly, "init-only", false, "set kernel parameters, make the table and the rule, and exit; then CAP_NET_ADMIN is enough to run")
	f.BoolVar(&command.Version, "version", false, "print the version and exit")
	sourceFlags(f, s)
	serverFlags(f, s)
	podFlags(f, s)
	nodePortFlags(f, s)
	ipvsFlags(f, s)
	kernelFlags(f, s)
	logFlags(f, s)
	idleFlags(f, s)
	return f
}

func sourceFlags(f *pflag.FlagSet, s *settings) {
	client := &s.ClientConnection
	f.StringVar(&s.source, "source", s.source, "where Services come from: kubernetes, or manifests:PATH of a directory or file of YAML")
	f.StringVar(&client.Kubeconfig, "kubeconfig", client.Kubeconfig, "path of a kubeconfig; without it the pod's service account is used")
	f.StringVar(&s.master, "master", s.master, "URL of the API server; goes before the kubeconfig's")
	f.StringVar(&client.ContentType, "kube-api-content-type", client.ContentType, "encoding of objects from the API server")
	f.Float32Var(&client.QPS, "kube-api-qps", client.QPS, "requests to the API server in a second")
	f.Int32Var(&client.Burst, "kube-api-burst", client.Burst, "requests to the API server at once")
	f.StringVar(&s.serviceProxyName, "service-proxy-name", s.serviceProxyName, "serve the Services whose label service.kubernetes.io/service-proxy-name is this, and no others; empty for those without it")
	f.DurationVar(&s.watchAuditPeriod, "watch-audit-period", s.watchAuditPeriod, "how often, give or take a half, the API server is asked for what its watches may have missed; 0 for never")
	f.StringVar(&s.snapshot, "snapshot", s.snapshot, "file that keeps the last known objects, to begin with while the API server is away; none if empty")
	f.DurationVar(&s.snapshotMaxAge, "snapshot-max-age", s.snapshotMaxAge, "how old what that file holds may be to begin with")
	f.StringVar(&s.HostnameOverride, "hostname-override", s.HostnameOverride, "name of this node's Node object; the host's name if empty")
	f.Var((*gates)(&s.FeatureGates), "feature-gates", "name=true or name=false, separated by commas; AllowServiceExternalIPs is looked at")
}

func serverFlags(f *pflag.FlagSet, s *settings) {
	f.StringVar(&s.BindAddress, "bind-address", s.BindAddress, "the node's primary address, if the Node object's is not right; nothing is bound to it")
	f.StringVar(&s.HealthzBindAddress, "healthz-bind-address", s.HealthzBindAddress, "address of the health server; empty for none")
	f.StringVar(&s.MetricsBindAddress, "metrics-bind-address", s.MetricsBindAddress, "address of the metrics server; empty for none")
	f.IntVar(&s.healthzPort, "healthz-port", s.healthzPort, "port of the health server; 0 for none; rather use --healthz-bind-address")
	f.IntVar(&s.metricsPort, "metrics-port", s.metricsPort, "port of the metrics server; 0 for none; rather use --metrics-bind-address")
	f.BoolVar(&s.BindAddressHardFail, "bind-address-hard-fail", s.BindAddressHardFail, "exit if the address of a server cannot be had; else it is tried again")
	f.BoolVar(&s.EnableProfiling, "profiling", s.EnableProfiling, "serve /debug/pprof/ on the metrics server")
}

func podFlags(f *pflag.FlagSet, s *settings) {
	f.StringVar((*string)(&s.DetectLocalMode), "detect-local-mode", string(s.DetectLocalMode), "how to tell pods, whose source addresses are kept: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
	f.StringVar(&s.ClusterCIDR, "cluster-cidr", s.ClusterCIDR, "CIDRs of the pods, separated by commas, for ClusterCIDR")
	f.StringVar(&s.DetectLocal.BridgeInterface, "pod-bridge-interface", s.DetectLocal.BridgeInterface, "the bridge that pods are attached to, for BridgeInterface")
	f.StringVar(&s.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", s.DetectLocal.InterfaceNamePrefix, "beginning of the names of pods' interfaces, for InterfaceNamePrefix")
	f.BoolVar(&s.IPTables.MasqueradeAll, "masquerade-all", s.IPTables.MasqueradeAll, "masquerade all traffic to Services")
	f.Int32Var(s.IPTables.MasqueradeBit, "iptables-masquerade-bit", *s.IPTables.MasqueradeBit, "the bit of the packet mark that asks for masquerading, 0 to 31")
}

func nodePortFlags(f *pflag.FlagSet, s *settings) {
	f.StringSliceVar(&s.NodePortAddresses, "nodeport-addresses", s.NodePortAddresses, "the node's addresses that serve NodePorts: CIDRs, primary, localhost, all; all if empty")
	f.BoolVar(s.IPTables.LocalhostNodePorts, "iptables-localhost-nodeports", *s.IPTables.LocalhostNodePorts, "serve NodePorts on the loopback addresses too")
	f.BoolVar(s.IPTables.LocalhostNodePorts, "localhost-nodeports", *s.IPTables.LocalhostNodePorts, "the same without the name of another mode")
}

func ipvsFlags(f *pflag.FlagSet, s *settings) {
	f.StringVar(&s.IPVS.Scheduler, "ipvs-scheduler", s.IPVS.Scheduler, "IPVS scheduler of every Service")
	f.DurationVar(&s.IPVS.SyncPeriod.Duration, "ipvs-sync-period", s.IPVS.SyncPeriod.Duration, "half the time after which a change that waits makes /healthz fail")
	f.DurationVar(&s.IPVS.TCPTimeout.Duration, "ipvs-tcp-timeout", s.IPVS.TCPTimeout.Duration, "IPVS's timeout of idle TCP connections; 0 leaves the kernel's")
	f.DurationVar(&s.IPVS.TCPFinTimeout.Duration, "ipvs-tcpfin-timeout", s.IPVS.TCPFinTimeout.Duration, "IPVS's timeout after a TCP FIN; 0 leaves the kernel's")
	f.DurationVar(&s.IPVS.UDPTimeout.Duration, "ipvs-udp-timeout", s.IPVS.UDPTimeout.Duration, "IPVS's timeout of UDP flows; 0 leaves the kernel's")
	f.DurationVar(&s.auditPeriod, "audit-period", s.auditPeriod, "how often the kernel is read back to find what others have changed without a sign; 0 for never")
	f.DurationVar(&s.drainTimeout, "drain-timeout", s.drainTimeout, "how long an endpoint that leaves may keep its TCP connections")
	f.StringVar(&s.drainLedger, "drain-ledger", s.drainLedger, "file that keeps, for the next start, which endpoints are leaving; none if empty")
	f.BoolVar(&s.endpointMetrics, "endpoint-metrics", s.endpointMetrics, "have metrics of each endpoint of each Service; every scrape reads all of them from the kernel")
	f.BoolVar(&s.adoptKubeProxy, "adopt-kube-proxy", s.adoptKubeProxy, "wait until kube-proxy has ended on this node, take over its virtual servers with their connections, and remove what else it has left")
	f.Uint32Var(&s.mark, "divert-mark", s.mark, "the one bit of the packet mark that leads a packet to IPVS; 0 for 0x1000")
	f.IntVar(&s.table, "route-table", s.table, "number of the route table for marked packets; 0 for 20046")
	f.IntVar(&s.rulePriority, "rule-priority", s.rulePriority, "priority of the rule that leads to it; 0 for 100")
}

func kernelFlags(f *pflag.FlagSet, s *settings) {
	c := &s.Conntrack
	f.Int32Var(s.OOMScoreAdj, "oom-score-adj", *s.OOMScoreAdj, "how readily the kernel kills this process when memory runs out, -1000 to 1000")
	f.Int32Var(c.MaxPerCore, "conntrack-max-per-core", *c.MaxPerCore, "connections to track for each processor; 0 leaves the kernel's limit")
	f.Int32Var(c.Min, "conntrack-min", *c.Min, "connections to track at least")
	f.DurationVar(&c.TCPEstablishedTimeout.Duration, "conntrack-tcp-timeout-established", c.TCPEstablishedTimeout.Duration, "how long idle TCP connections are tracked; 0 leaves the kernel's")
	f.DurationVar(&c.TCPCloseWaitTimeout.Duration, "conntrack-tcp-timeout-close-wait", c.TCPCloseWaitTimeout.Duration, "how long TCP connections in CLOSE_WAIT are tracked; 0 leaves the kernel's")
	f.BoolVar(&c.TCPBeLiberal, "conntrack-tcp-be-liberal", c.TCPBeLiberal, "take TCP packets outside the window for valid")
	f.DurationVar(&c.UDPTimeout.Duration, "conntrack-udp-timeout", c.UDPTimeout.Duration, "how long UDP flows without a reply are tracked; 0 leaves the kernel's")
	f.DurationVar(&c.UDPStreamTimeout.Duration, "conntrack-udp-timeout-stream", c.UDPStreamTimeout.Duration, "how long other UDP flows are tracked; 0 leaves the kernel's")
}

func logFlags(f *pflag.FlagSet, s *settings) {
	f.Uint32VarP((*uint32)(&s.Logging.Verbosity), "v", "v", uint32(s.Logging.Verbosity), "log level; debug lines from 4 on")
	f.StringVar(&s.Logging.Format, "logging-format", s.Logging.Format, "text or json")
}

// IsHelp tells whether an error of Parse only means that help was asked for,
// which Parse has printed then.
func IsHelp(err error) bool { return errors.Is(err, pflag.ErrHelp) }
