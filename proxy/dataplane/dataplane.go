// Package dataplane makes the kernel of one node equal to a plan.Plan.
//
// A Kernel reads the kernel back as a plan of the same keys and values (Observe) and
// does the operations by which two plans differ (Apply). It decides nothing. It owns
// one nftables table, one routing rule with its table, and those virtual servers that
// an element of the table's owned sets names: the kernel itself remembers what is
// ours, so virtual servers of other software are never reported, changed or removed.
//
// No program is run and nothing is listed while operations are applied: what one
// change costs does not depend on how many Services there are.
package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/nft"
	"github.com/mooring-project/mooring/proxy/dataplane/route"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
)

// Errors that callers may want to tell apart.
var (
	// ErrUnavailable says that the kernel has no IPVS.
	ErrUnavailable = ipvs.ErrUnavailable
	// ErrPermission says that the process lacks CAP_NET_ADMIN.
	ErrPermission = errors.New("not allowed to configure the network: run as root, or give the process CAP_NET_ADMIN")
	// ErrNoNftables says that the kernel has no nftables.
	ErrNoNftables = errors.New("the kernel has no nftables: run `modprobe nf_tables` on the node, or boot a kernel built with CONFIG_NF_TABLES_INET")
	// ErrKernelTooOld says that the kernel lacks something newer.
	ErrKernelTooOld = errors.New("the kernel is too old: Linux 5.10 or newer is needed (nft reject in prerouting, concatenated sets of intervals)")
	// ErrTimeout and ErrInterrupted say that IPVS has not answered, or that what was listed has
	// changed each time.
	ErrTimeout     = ipvs.ErrTimeout
	ErrInterrupted = ipvs.ErrInterrupted
	// ErrNoTable says that our nftables table is gone: call Setup.
	ErrNoTable = nft.ErrNoTable
)

// Kernel is the data plane of the network namespace of the thread that opened it. Its
// methods may be called from any goroutine, and are done one after the other.
type Kernel struct {
	options Options
	divert  route.Divert

	mu   sync.Mutex
	nft  *nft.Table
	ipvs *ipvs.Table
	// translated is set when kube-proxy has led connections to endpoints by NAT.
	translated bool
	// templates are those of virtual servers that have been kube-proxy's.
	templates []ipvs.Template
}

// Open finds out whether the kernel can do what we need, and changes nothing besides
// loading the module ip_vs. Its errors say what to do.
func Open(options Options) (*Kernel, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkRelease(); err != nil {
		return nil, err
	}
	k := &Kernel{options: options, divert: divert(options)}
	k.nft = nft.New(nft.Config{
		Mark: options.DivertMark, MasqueradeMark: options.MasqueradeMark,
		MasqueradeAll: options.MasqueradeAll, PodInterface: options.PodInterface, RandomFully: options.RandomFully,
	}, callTimeout)
	if err := k.open(context.Background()); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Kernel) open(ctx context.Context) error {
	if err := k.nft.Probe(ctx); err != nil {
		return classify(err, ErrNoNftables)
	}
	if err := ipvs.Available(ctx); err != nil {
		return err
	}
	var err error
	open := ipvs.Open
	if k.options.Moby {
		open = ipvs.OpenMoby
	}
	if k.ipvs, err = open(callTimeout, k.options.Logger); err != nil {
		return err
	}
	_, err = k.ipvs.VirtualServers(ctx)
	return classify(err, ErrUnavailable)
}

// Close closes the sockets. What is in the kernel stays and goes on working.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ipvs != nil {
		k.ipvs.Close()
	}
	return k.nft.Close()
}

func divert(o Options) route.Divert {
	d := route.Divert{Mark: o.DivertMark, Table: o.RouteTable, Priority: o.RulePriority}
	if o.IPv4 {
		d.Families = append(d.Families, netlink.FAMILY_V4)
	}
	if o.IPv6 {
		d.Families = append(d.Families, netlink.FAMILY_V6)
	}
	return d
}

// Setup makes everything that does not depend on Services: kernel parameters, idle
// timeouts, the nftables table, the routing rule. What an earlier run left is adopted,
// so it may be called at any time.
func (k *Kernel) Setup(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.setupParameters(); err != nil {
		return classify(err, nil)
	}
	if err := k.ipvs.SetTimeouts(ctx, k.options.TCPTimeout, k.options.TCPFinTimeout, k.options.UDPTimeout); err != nil {
		return fmt.Errorf("ipvs timeouts: %w", classify(err, nil))
	}
	if err := k.nft.Setup(ctx); err != nil {
		return classify(err, nil)
	}
	if err := k.divert.Setup(); err != nil {
		return classify(err, nil)
	}
	k.warn()
	return nil
}

// parameter is a kernel parameter and what it has to be.
type parameter struct{ name, value string }

// parameters are what has to be so. kube-proxy's IPVS mode sets them too, but for the last one.
// conn_reuse_mode keeps its 1: 0 was the workaround for kernels before 5.9, and loses expire_nodest_conn.
func (k *Kernel) parameters() []parameter {
	parameters := []parameter{
		{"net/ipv4/vs/conntrack", "1"},                 // postrouting can masquerade what IPVS sends
		{"net/ipv4/vs/expire_nodest_conn", "1"},        // a connection ends with its real server
		{"net/ipv4/vs/expire_quiescent_template", "1"}, // a client leaves a real server of weight 0
	}
	if k.options.IPv4 {
		parameters = append(parameters, parameter{"net/ipv4/ip_forward", "1"})
	}
	if k.options.IPv6 {
		parameters = append(parameters, parameter{"net/ipv6/conf/all/forwarding", "1"})
	}
	// A connection that its server has reset is forgotten at once. For as long as it is remembered, a
	// SYN from the same port does not begin a new one (nf_conntrack_tcp_packet, nf_conntrack_proto_tcp.c:
	// unless the client has reset, or somebody has sent a FIN), and IPVS drops a SYN that belongs to an
	// old one (ip_vs_in_hook, ip_vs_core.c), for which its client waits a second.
	return append(parameters, parameter{"net/netfilter/nf_conntrack_tcp_timeout_close", "0"})
}

func (k *Kernel) setupParameters() error {
	for _, p := range k.parameters() {
		if err := sysctl.Ensure(p.name, p.value); err != nil {
			return err
		}
	}
	return nil
}

// warn tells about settings of others that do harm and that are not ours to change.
func (k *Kernel) warn() {
	if value, err := sysctl.Get("net/ipv4/conf/all/src_valid_mark"); err == nil && value == "1" {
		k.options.Logger.Warn("packets to Services may be dropped as martians: the reverse path check looks at the mark",
			slog.String("sysctl", "net.ipv4.conf.all.src_valid_mark"), slog.String("is", "1"), slog.String("should be", "0"))
	}
	const bridge = "net/bridge/bridge-nf-call-iptables"
	if value, err := sysctl.Get(bridge); err == nil && value == "0" {
		k.options.Logger.Warn("if pods are attached to a bridge, replies bypass IPVS and connections between pods of this node hang",
			slog.String("sysctl", bridge), slog.String("is", "0"), slog.String("should be", "1"))
	}
}

// classify turns the kernel's bare numbers into errors that say what to do.
func classify(err, unsupported error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (%w)", ErrPermission, err)
	case unsupported != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w (%w)", unsupported, err)
	}
	return err
}
