package nft

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestEveryKeyIsItsElement(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		key := drawKey(r)
		element := encode(key)
		got, err := decode(key.Kind, familyOf(key), element)
		if err != nil {
			r.Fatal(err)
		}
		if got != key {
			r.Fatalf("element %x is %s, want %s", element, got, key)
		}
		if want := int(sets(nil)[listName(key.Kind, familyOf(key))].KeyType.Bytes); len(element) != want {
			r.Fatalf("element %x of %d bytes in a set of %d", element, len(element), want)
		}
	})
}

func TestElementOfAnotherLayoutIsNoKey(t *testing.T) {
	for _, kind := range elementKinds {
		if key, err := decode(kind, ipv4, make([]byte, 7)); err == nil {
			t.Errorf("%s: seven bytes are %s", kind, key)
		}
	}
}

func drawKey(r *rapid.T) plan.Key {
	kind := rapid.SampledFrom(elementKinds).Draw(r, "kind")
	addr := drawAddr(r)
	switch kind {
	case plan.Hairpin:
		return plan.Key{Kind: kind, Endpoint: netip.AddrPortFrom(addr, 0)}
	case plan.ServiceCIDR, plan.PodCIDR:
		return plan.PrefixKey(kind, drawPrefix(r))
	case plan.OwnedMark, plan.AffinityTimeout, plan.Pinned, plan.Pin:
		key := plan.MarkKey(kind, rapid.Uint32().Draw(r, "mark"), addr.Is6())
		switch kind {
		case plan.Pinned:
			key.Pin = rapid.Uint32().Draw(r, "pin")
		case plan.Pin:
			key.Endpoint = netip.AddrPortFrom(addr, rapid.Uint16().Draw(r, "port"))
		}
		return key
	}
	protocol := rapid.SampledFrom([]model.Protocol{model.TCP, model.UDP, model.SCTP}).Draw(r, "protocol")
	key := plan.Key{Kind: kind, Addr: addr, Protocol: protocol, Port: rapid.Uint16().Draw(r, "port")}
	if kind == plan.FirewallAllow {
		from := rapid.Custom(drawPrefix).Filter(func(p netip.Prefix) bool { return p.Addr().Is6() == addr.Is6() }).Draw(r, "from")
		key.Endpoint, key.Bits = netip.AddrPortFrom(from.Addr(), 0), uint8(from.Bits())
	}
	return key
}

func drawAddr(r *rapid.T) netip.Addr {
	bytes := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "address")
	if rapid.Bool().Draw(r, "ipv6") {
		bytes[0] = 0xfd // not a mapped IPv4 address
		return netip.AddrFrom16([16]byte(bytes))
	}
	return netip.AddrFrom4([4]byte(bytes))
}

func drawPrefix(r *rapid.T) netip.Prefix {
	addr := drawAddr(r)
	prefix, _ := addr.Prefix(rapid.IntRange(0, addr.BitLen()).Draw(r, "bits"))
	return prefix
}

func TestCover(t *testing.T) {
	parse := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	for name, test := range map[string]struct{ prefixes, want []netip.Prefix }{
		"none":                 {nil, nil},
		"apart":                {parse("10.2.0.0/16", "10.1.0.0/16"), parse("10.1.0.0/16", "10.2.0.0/16")},
		"nested":               {parse("10.96.4.0/24", "10.96.0.0/12", "10.96.0.0/16"), parse("10.96.0.0/12")},
		"the same start":       {parse("10.96.0.0/32", "10.96.0.0/16"), parse("10.96.0.0/16")},
		"everything":           {parse("255.0.0.0/8", "0.0.0.0/0", "10.0.0.0/8"), parse("0.0.0.0/0")},
		"neighbours":           {parse("10.0.0.0/9", "10.128.0.0/9"), parse("10.0.0.0/9", "10.128.0.0/9")},
		"twice":                {parse("10.0.0.0/8", "10.0.0.0/8"), parse("10.0.0.0/8")},
		"after one with holes": {parse("10.0.0.0/16", "10.1.0.0/24", "10.0.5.0/24"), parse("10.0.0.0/16", "10.1.0.0/24")},
	} {
		t.Run(name, func(t *testing.T) {
			equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			if diff := cmp.Diff(test.want, cover(test.prefixes), equal); diff != "" {
				t.Errorf("cover (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIntervalEndsBehindThePrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.96.0.0/16": "10.97.0.0", "10.96.0.7/32": "10.96.0.8", "0.0.0.0/1": "128.0.0.0", "fd00::/8": "fe00::",
		"0.0.0.0/0": "", "255.255.255.255/32": "", "ff00::/8": "",
	} {
		end := after(netip.MustParsePrefix(prefix))
		if got := end.IsValid(); got != (want != "") || got && end.String() != want {
			t.Errorf("after %s: %s, want %q", prefix, end, want)
		}
	}
}
