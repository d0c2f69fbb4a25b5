package policy

import "net/netip"

// Unfit says why an address can be neither an endpoint's nor, but for those that the API server
// allots, a Service's; empty if it can. The API refuses most of these (ValidateEndpointIP,
// ValidateNonSpecialIP in kubernetes/pkg/apis/core/validation), but neither multicast nor
// broadcast addresses, and none of them as a load balancer's.
func Unfit(address netip.Addr) string {
	switch {
	case address.IsLoopback():
		return "a loopback address is every host's own"
	case address.IsMulticast():
		return "a multicast address is nobody's own"
	case address.IsLinkLocalUnicast():
		return "a link-local address means another host on every link"
	case !address.IsValid(), address.IsUnspecified(), address.Is4() && address.As4()[0] == 0:
		return "an address of this network stands for no host" // RFC 1122 3.2.1.3
	case address == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address stands for all hosts"
	}
	return ""
}
