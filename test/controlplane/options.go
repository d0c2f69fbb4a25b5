package controlplane

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// Service address ranges as kubeadm and the Mooring tests use them.
const (
	// ServiceCIDR is the default, for one family.
	ServiceCIDR = "10.96.0.0/16"
	// DualStackServiceCIDR gives services an IPv4 and an IPv6 address.
	DualStackServiceCIDR = "10.96.0.0/16,fd00:10:96::/112"
)

// Options say what to start. The zero value is a control plane on loopback for
// a test that plays kubelet.
type Options struct {
	// Dir holds keys, data, kubeconfigs and logs/. Empty means a temporary
	// directory that Stop removes; a given one is the caller's to remove.
	Dir string
	// BinDir holds the programs, as Build returns it. Empty means that Start
	// builds what is missing, which takes minutes the first time.
	BinDir string
	// Log receives the progress of a build. May be nil.
	Log io.Writer

	// BindAddress is where the API server listens; 127.0.0.1 by default.
	BindAddress netip.Addr
	// SecurePort is its port; a free one between 20000 and 29999 by default.
	SecurePort uint16
	// AdvertiseAddress is the address in the endpoints of the Service
	// default/kubernetes; their port is SecurePort. It must be of the family
	// of the first service range, and the API refuses loopback. It need not
	// be an address of this host: in a test machine it is where a relay
	// listens. By default it is 192.0.2.1 or 2001:db8::1, where nothing
	// answers (RFC 5737, RFC 3849).
	AdvertiseAddress netip.Addr
	// ServiceCIDR is one range or two, separated by a comma; ServiceCIDR the
	// constant by default.
	ServiceCIDR string
	// ExtraSANs are more host names and addresses for the serving
	// certificate. It always has 127.0.0.1, ::1, localhost, the names of the
	// Service default/kubernetes and its cluster IPs, BindAddress and
	// AdvertiseAddress.
	ExtraSANs []string
	// Users may log in besides Admin.
	Users []User

	// RealNodes is for clusters with kubelets: pods get their service
	// account tokens at admission, the Node authorizer is on, and the
	// controllers run that watch over nodes. Without it they are off, because
	// they would evict the pods of nodes whom nobody keeps alive.
	RealNodes bool
	// Scheduler starts kube-scheduler.
	Scheduler bool
	// NoControllerManager leaves kube-controller-manager out, for tests that
	// write their EndpointSlices themselves.
	NoControllerManager bool

	// Further flags in the form --name=value; each replaces a flag of the
	// same name that we would pass.
	APIServerFlags, ControllerManagerFlags, SchedulerFlags []string

	// StartTimeout bounds the wait for each component; 2 minutes by default.
	StartTimeout time.Duration
}

// complete fills in the defaults and checks what can be checked before
// anything is started.
func (o Options) complete() (Options, []netip.Prefix, error) {
	if o.ServiceCIDR == "" {
		o.ServiceCIDR = ServiceCIDR
	}
	ranges, err := parseRanges(o.ServiceCIDR)
	if err != nil {
		return o, nil, err
	}
	if !o.BindAddress.IsValid() {
		o.BindAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if !o.AdvertiseAddress.IsValid() {
		o.AdvertiseAddress = nowhere(ranges[0])
	}
	if err := checkAdvertised(o.AdvertiseAddress, ranges[0]); err != nil {
		return o, nil, err
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 2 * time.Minute
	}
	return o, ranges, nil
}

func parseRanges(text string) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("service range %q: %w", part, err)
		}
		ranges = append(ranges, p.Masked())
	}
	return ranges, nil
}

// nowhere is an address of the range's family that is reserved for
// documentation.
func nowhere(service netip.Prefix) netip.Addr {
	if service.Addr().Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return netip.MustParseAddr("2001:db8::1")
}

func checkAdvertised(a netip.Addr, service netip.Prefix) error {
	switch {
	case a.IsLoopback(), a.IsUnspecified(), a.IsLinkLocalUnicast(), a.IsMulticast():
		return fmt.Errorf("advertise address %s: the API takes no loopback, unspecified, link-local or multicast address as an endpoint", a)
	case a.Is4() != service.Addr().Is4():
		return fmt.Errorf("advertise address %s: must be of the family of the first service range %s", a, service)
	}
	return nil
}

// firstHost is the cluster IP that the API server gives to default/kubernetes.
func firstHost(p netip.Prefix) netip.Addr { return p.Addr().Next() }
