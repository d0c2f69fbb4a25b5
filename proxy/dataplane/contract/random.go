package contract

import (
	"net/netip"

	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// drawPlan draws a plan in which what belongs together is together. The universe is
// small, so that successive plans share objects with other values.
func drawPlan(r *rapid.T) plan.Plan {
	p := plan.Plan{}
	for range rapid.IntRange(0, 6).Draw(r, "virtual servers") {
		drawServer(r, p)
	}
	for range rapid.IntRange(0, 4).Draw(r, "prefixes") {
		kind := rapid.SampledFrom([]plan.Kind{plan.ServiceCIDR, plan.PodCIDR}).Draw(r, "kind")
		prefix, _ := drawAddr(r, 0).Prefix(rapid.IntRange(0, 32).Draw(r, "bits"))
		p[plan.PrefixKey(kind, prefix)] = plan.Value{}
	}
	return p
}

func drawServer(r *rapid.T, p plan.Plan) {
	server := plan.Key{
		Kind:     plan.VirtualServer,
		Protocol: rapid.SampledFrom([]model.Protocol{model.TCP, model.UDP, model.SCTP}).Draw(r, "protocol"),
		Port:     rapid.Uint16Range(1, 3).Draw(r, "port"),
		Addr:     drawAddr(r, 1),
	}
	if rapid.IntRange(0, 3).Draw(r, "rejected") == 0 {
		server.Kind = plan.Reject
		p[server] = plan.Value{}
		return
	}
	value := plan.Value{Scheduler: rapid.SampledFrom([]string{"rr", "wlc", "sh"}).Draw(r, "scheduler")}
	if rapid.Bool().Draw(r, "persistent") {
		value.Flags, value.Persistence = 1, rapid.Uint32Range(1, 86400).Draw(r, "persistence")
	}
	kinds := []plan.Kind{}
	for _, kind := range []plan.Kind{plan.Divert, plan.Masquerade} {
		if rapid.Bool().Draw(r, kind.String()) {
			kinds = append(kinds, kind)
		}
	}
	addServer(p, server, value, kinds...)
	if rapid.IntRange(0, 2).Draw(r, "split") == 0 {
		drawSplit(r, p, server, value)
	}
	if rapid.IntRange(0, 2).Draw(r, "affinity") == 0 {
		drawAffinity(r, p, server)
	}
	for range rapid.IntRange(0, 3).Draw(r, "real servers") {
		drawRealServer(r, p, server)
	}
}

// drawSplit adds a second view of a virtual server, and who may see either.
func drawSplit(r *rapid.T, p plan.Plan, server plan.Key, value plan.Value) {
	marks := map[model.Protocol]uint32{model.TCP: 1, model.UDP: 2, model.SCTP: 3}
	mark := marks[server.Protocol] + rapid.SampledFrom([]uint32{0x01000004, 0xff000040}).Draw(r, "mark")
	second := plan.MarkKey(plan.VirtualServer, mark, server.IPv6())
	p[second], p[second.OwnedKey()] = value, plan.Value{}
	drawRealServer(r, p, second)
	server.Kind = plan.Split
	p[server] = plan.Value{Mark: mark}
	for range rapid.IntRange(0, 3).Draw(r, "sources") {
		server.Kind = plan.Firewall
		p[server] = plan.Value{}
		addr := server.Addr
		prefix, _ := addr.Prefix(rapid.IntRange(addr.BitLen()-3, addr.BitLen()).Draw(r, "bits"))
		allow := server
		allow.Kind, allow.Endpoint, allow.Bits = plan.FirewallAllow, netip.AddrPortFrom(prefix.Addr(), 0), uint8(prefix.Bits())
		p[allow] = plan.Value{}
	}
}

// drawAffinity adds that clients of a virtual server are kept at endpoints.
func drawAffinity(r *rapid.T, p plan.Plan, server plan.Key) {
	marks := map[model.Protocol]uint32{model.TCP: 1, model.UDP: 2, model.SCTP: 3}
	group := marks[server.Protocol] + rapid.SampledFrom([]uint32{0x03000000, 0xfe000010}).Draw(r, "group")
	server.Kind = rapid.SampledFrom([]plan.Kind{plan.Affinity, plan.AffinityInside}).Draw(r, "side")
	p[server] = plan.Value{Mark: group}
	for range rapid.IntRange(0, 3).Draw(r, "pins") {
		endpoint := drawEndpoint(r, server.IPv6())
		addPin(p, group, group+rapid.SampledFrom([]uint32{4, 8}).Draw(r, "pin"), endpoint)
	}
	addTimeout(p, group, server.IPv6(), rapid.Uint32Range(1, 3).Draw(r, "timeout"))
}

func drawEndpoint(r *rapid.T, ipv6 bool) netip.AddrPort {
	addr := netip.AddrFrom4([4]byte{10, 244, 0, rapid.Uint8Range(1, 3).Draw(r, "pod")})
	if ipv6 {
		addr = netip.AddrFrom16([16]byte{0xfd, 0, 0x02, 0x44, 15: rapid.Uint8Range(1, 3).Draw(r, "pod")})
	}
	return netip.AddrPortFrom(addr, rapid.Uint16Range(8080, 8081).Draw(r, "target port"))
}

func drawRealServer(r *rapid.T, p plan.Plan, server plan.Key) {
	server.Kind, server.Endpoint = plan.RealServer, drawEndpoint(r, server.IPv6())
	p[server] = plan.Value{Weight: rapid.Uint32Range(0, 65535).Draw(r, "weight")}
	if rapid.Bool().Draw(r, "hairpin") {
		p[plan.Key{Kind: plan.Hairpin, Endpoint: netip.AddrPortFrom(server.Endpoint.Addr(), 0)}] = plan.Value{}
	}
}

// drawAddr draws an address of either family from a few.
func drawAddr(r *rapid.T, least byte) netip.Addr {
	last := rapid.Uint8Range(least, 3).Draw(r, "address")
	if rapid.Bool().Draw(r, "ipv6") {
		return netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x96, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 96, 0, last})
}
