package plan

import (
	"maps"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
)

// drawKey gives any key, also such as no plan has.
func drawKey(r *rapid.T) Key {
	addr := func(name string) netip.Addr {
		switch bytes := rapid.SliceOfN(rapid.ByteRange(0, 2), 16, 16).Draw(r, name); rapid.IntRange(0, 4).Draw(r, name+" family") {
		case 0:
			return netip.Addr{}
		case 1, 2:
			return netip.AddrFrom4([4]byte(bytes[:4]))
		case 3:
			return netip.IPv6Unspecified()
		default:
			return netip.AddrFrom16([16]byte(bytes))
		}
	}
	small := rapid.Uint32Range(0, 2)
	return Key{
		Kind: Kind(rapid.IntRange(1, int(Relay)).Draw(r, "kind")), Protocol: model.Protocol(small.Draw(r, "protocol")),
		Port: uint16(small.Draw(r, "port")), Bits: uint8(small.Draw(r, "bits")), Mark: small.Draw(r, "mark"), Pin: small.Draw(r, "pin"),
		Addr: addr("address"), Endpoint: netip.AddrPortFrom(addr("endpoint"), uint16(small.Draw(r, "endpoint port"))),
	}
}

func drawValue(r *rapid.T) Value {
	number := rapid.SampledFrom([]uint32{0, 0, 1, 65535, 1<<32 - 1})
	return Value{
		Scheduler: rapid.SampledFrom([]string{"", "", "rr", "wlc"}).Draw(r, "scheduler"), Flags: number.Draw(r, "flags"),
		Persistence: number.Draw(r, "persistence"), Weight: number.Draw(r, "weight"), Forward: Forward(rapid.IntRange(0, 1).Draw(r, "forward")),
		Mark: number.Draw(r, "mark"), Timeout: number.Draw(r, "timeout"),
	}
}

func TestPackingLosesNothing(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		key, value := drawKey(r), drawValue(r)
		s, l, isShort := pack(key)
		got := l.key()
		if isShort {
			got = s.key()
		}
		if got != key {
			r.Errorf("key %#v is %#v after packing", key, got)
		}
		var v values
		if got := v.value(v.pack(value)); got != value {
			r.Errorf("value %#v is %#v after packing", value, got)
		}
	})
}

func TestWhatPlansHaveIsShort(t *testing.T) {
	vip, endpoint := netip.MustParseAddr("10.96.0.10"), netip.MustParseAddrPort("10.244.1.2:8080")
	for _, key := range []Key{
		{Kind: VirtualServer, Protocol: model.TCP, Addr: vip, Port: 80},
		{Kind: RealServer, Protocol: model.TCP, Addr: vip, Port: 80, Endpoint: endpoint},
		{Kind: Hairpin, Endpoint: netip.AddrPortFrom(endpoint.Addr(), 0)},
		{Kind: FirewallAllow, Protocol: model.TCP, Addr: vip, Port: 80, Bits: 8, Endpoint: endpoint},
		MarkKey(VirtualServer, 0x01000001, false),
		MarkKey(OwnedMark, 0x01000001, true),
		{Kind: Pinned, Mark: 0x01000001, Pin: 0x02000001, Addr: netip.IPv4Unspecified()},
	} {
		if _, _, isShort := pack(key); !isShort {
			t.Errorf("%s is long", key)
		}
	}
}

// TestAStoreIsAPlan does the same with both.
func TestAStoreIsAPlan(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want := Plan{}
		for range rapid.IntRange(0, 5).Draw(r, "at first") {
			want[drawKey(r)] = drawValue(r)
		}
		store := NewStore(want)
		for range rapid.IntRange(0, 20).Draw(r, "operations") {
			op := Op{Verb: rapid.SampledFrom([]Verb{Add, Update, Delete}).Draw(r, "verb"), Key: drawKey(r)}
			if op.Verb != Delete {
				op.Value = drawValue(r)
			}
			want.Record(op)
			store.Record(op)
		}
		if got := maps.Collect(store.All()); !maps.Equal(got, want) || store.Len() != len(want) {
			r.Errorf("%d objects\n%vwant\n%v", store.Len(), Plan(got), want)
		}
		fragment := newPacked(want, &store.values)
		for kind := range Kinds() {
			n := 0
			for key := range store.OfKind(kind) {
				if got, is := store.Get(key); key.Kind != kind || !is || got != want[key] {
					r.Errorf("of kind %s: %s %v", kind, key, got)
				}
				if got, is := fragment.get(key); !is || store.values.value(got) != want[key] {
					r.Errorf("in a fragment: %s", key)
				}
				n++
			}
			if _, is := store.Get(Key{Kind: kind, Port: 9}); is {
				r.Errorf("%d objects of kind %s, and one more", n, kind)
			}
		}
	})
}

func BenchmarkStore(b *testing.B) {
	store := NewStore(nil)
	key := Key{Kind: RealServer, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Endpoint: netip.MustParseAddrPort("10.244.1.2:8080")}
	b.ReportAllocs()
	for b.Loop() {
		store.Record(Op{Verb: Add, Key: key, Value: Value{Weight: 1}})
		if _, is := store.Get(key); !is {
			b.Fatal("lost")
		}
	}
}
