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
	// Cleanup asks for everything of ours to be removed from the kernel and nothing else.
	Cleanup bool
}

// Parse reads a command line without the program's name. A flag that is given goes before the
// configuration file.
func Parse(args []string) (Command, error) {
	var command Command
	defaults := Default()
	given := defaults
	file := ""
	flags := flagSet(&given, &command, &file)
	if err := flags.Parse(args); err != nil {
		return Command{}, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return Command{}, fmt.Errorf("argument %q: mooring-proxy takes flags only", rest[0])
	}
	if command.Version {
		return command, nil
	}
	command.Config = given
	if file != "" {
		fromFile, warnings, err := ReadFile(file, defaults)
		if err != nil {
			return Command{}, err
		}
		command.Warnings = warnings
		// The flags once more, over the file: only those that are given change it.
		over := flagSet(&fromFile, &Command{}, new(string))
		if err := over.Parse(args); err != nil {
			return Command{}, err
		}
		command.Config = fromFile
	}
	if err := command.Config.finish(); err != nil {
		return Command{}, err
	}
	return command, nil
}

// finish fills in what only the running machine knows, and validates.
func (c *Config) finish() error {
	if c.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node's name: %w", err)
		}
		c.Node = name
	}
	c.Node = strings.ToLower(strings.TrimSpace(c.Node))
	return c.Validate()
}

// flagSet defines the flags on the fields of a Config, whose values are the defaults.
func flagSet(c *Config, command *Command, file *string) *pflag.FlagSet {
	f := pflag.NewFlagSet("mooring-proxy", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(file, "config", *file, "path of a KubeProxyConfiguration; flags that are given go before it")
	f.StringVar(&c.Source, "source", c.Source, "where Services come from: kubernetes, or manifests:PATH of a directory or file of YAML")
	f.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig; without it the pod's service account is used")
	f.StringVar(&c.Master, "master", c.Master, "URL of the API server; goes before the kubeconfig's")
	f.StringVar(&c.Node, "hostname-override", c.Node, "name of this node's Node object; the host's name if empty")
	f.StringVar(&c.HealthzAddress, "healthz-bind-address", c.HealthzAddress, "address of the health server; empty for none")
	f.StringVar(&c.MetricsAddress, "metrics-bind-address", c.MetricsAddress, "address of the metrics server; empty for none")
	f.Var((*prefixList)(&c.PodCIDRs), "cluster-cidr", "CIDRs of the pods, separated by commas: their source addresses are kept")
	f.Var((*prefixList)(&c.NodePortAddresses), "nodeport-addresses", "CIDRs of the node's addresses that serve NodePorts; all if empty")
	f.BoolVar(&c.LocalhostNodePorts, "localhost-nodeports", c.LocalhostNodePorts, "serve NodePorts on the loopback addresses too")
	f.BoolVar(&c.MasqueradeAll, "masquerade-all", c.MasqueradeAll, "masquerade all traffic to Services")
	f.StringVar(&c.Scheduler, "ipvs-scheduler", c.Scheduler, "IPVS scheduler of every Service")
	f.DurationVar(&c.TCPTimeout, "ipvs-tcp-timeout", c.TCPTimeout, "IPVS's timeout of idle TCP connections; 0 leaves the kernel's")
	f.DurationVar(&c.TCPFinTimeout, "ipvs-tcpfin-timeout", c.TCPFinTimeout, "IPVS's timeout after a TCP FIN; 0 leaves the kernel's")
	f.DurationVar(&c.UDPTimeout, "ipvs-udp-timeout", c.UDPTimeout, "IPVS's timeout of UDP flows; 0 leaves the kernel's")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long an endpoint that leaves may keep its TCP connections")
	f.Uint32Var(&c.Mark, "divert-mark", c.Mark, "the one bit of the packet mark that leads a packet to IPVS; 0 for 0x1000")
	f.IntVar(&c.Table, "route-table", c.Table, "number of the route table for marked packets; 0 for 20046")
	f.IntVar(&c.RulePriority, "rule-priority", c.RulePriority, "priority of the rule that leads to it; 0 for 100")
	f.IntVarP(&c.Verbosity, "v", "v", c.Verbosity, "log level; debug lines from 4 on")
	f.BoolVar(&command.Cleanup, "cleanup", false, "remove everything of mooring-proxy from the kernel and exit")
	f.BoolVar(&command.Version, "version", false, "print the version and exit")
	f.String("proxy-mode", "ipvs", "accepted for kube-proxy's sake; always ipvs")
	return f
}

// IsHelp tells whether an error of Parse only means that help was asked for,
// which Parse has printed then.
func IsHelp(err error) bool { return errors.Is(err, pflag.ErrHelp) }
