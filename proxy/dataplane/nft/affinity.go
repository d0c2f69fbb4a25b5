package nft

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// What keeps clients at endpoints; plan/affinity.go says how. The number of a client's group
// is the packet's priority from where we see the Service's address until IPVS has chosen: the
// mark has to be that of a virtual server and nothing else. It is 0 again before anybody
// queues the packet. Only packets that begin a connection are treated so.

// rememberedClients is how many clients a family can have: the kernel gives the memory of the
// hash table at once, eight bytes for each. A client that finds no room has a free choice each
// time.
const rememberedClients = 1 << 17

// clientsName names the map `client . group -> mark of a pin`. Its elements are the kernel's.
func clientsName(f family) string { return "clients" + f.suffix }

// affinitySets gives the sets of a family.
func affinitySets(f family) []*nftables.Set {
	var result []*nftables.Set
	dictionary := func(name string, data nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		set := &nftables.Set{Name: name, KeyType: key[0]}
		if len(key) > 1 {
			set = concatenation(name, key...)
		}
		set.IsMap, set.DataType = true, data
		result = append(result, set)
		return set
	}
	for _, kind := range []plan.Kind{plan.Affinity, plan.AffinityInside} {
		dictionary(listName(kind, f), nftables.TypeClassID, f.addr, nftables.TypeInetProto, nftables.TypeInetService)
	}
	dictionary(listName(plan.AffinityTimeout, f), nftables.TypeVerdict, nftables.TypeClassID)
	dictionary(listName(plan.Pin, f), nftables.TypeMark, nftables.TypeClassID, f.addr, nftables.TypeInetService)
	clients := dictionary(clientsName(f), nftables.TypeMark, f.addr, nftables.TypeClassID)
	clients.Dynamic, clients.HasTimeout, clients.Size = true, true, rememberedClients
	return append(result, concatenation(listName(plan.Pinned, f), nftables.TypeClassID, nftables.TypeMark))
}

// encodePin gives `group . address . port`.
func encodePin(key plan.Key) []byte {
	element := binary.NativeEndian.AppendUint32(nil, key.Mark)
	element = append(element, key.Endpoint.Addr().AsSlice()...)
	return append(binary.BigEndian.AppendUint16(element, key.Endpoint.Port()), 0, 0)
}

// decodeMark gives the object of an element that begins with a mark or a group.
func decodeMark(kind plan.Kind, f family, element []byte) plan.Key {
	key := plan.MarkKey(kind, binary.NativeEndian.Uint32(element), f.ipv6)
	switch rest := element[register:]; kind {
	case plan.Pinned:
		key.Pin = binary.NativeEndian.Uint32(rest)
	case plan.Pin:
		addr, _ := netip.AddrFromSlice(rest[:f.bytes])
		key.Endpoint = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[f.bytes:]))
	}
	return key
}

// A timeout is a constant of the rule that adds an element: each has a chain, and one more for
// connections that are to get the node's address.
const (
	chainPrefix       = "affinity-"
	masqueradedSuffix = "-masqueraded"
)

func chainName(timeout uint32) string { return chainPrefix + strconv.FormatUint(uint64(timeout), 10) }

// remember gives where the clients of a group are remembered.
func remember(key plan.Key, value plan.Value) *expr.Verdict {
	chain := chainName(value.Timeout)
	if key.Mark&plan.Masqueraded != 0 {
		chain += masqueradedSuffix
	}
	return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}
}

// remembered reads that back from the attributes of a verdict.
func remembered(verdict []byte) plan.Value {
	attributes, err := netlink.UnmarshalAttributes(verdict)
	if err != nil {
		return plan.Value{}
	}
	for _, a := range attributes {
		if a.Type == unix.NFTA_VERDICT_CHAIN {
			return plan.Value{Timeout: timeoutOf(unix.ByteSliceToString(a.Data))}
		}
	}
	return plan.Value{}
}

// timeoutOf gives the timeout whose chain has a name, or 0.
func timeoutOf(chain string) uint32 {
	text, ours := strings.CutPrefix(strings.TrimSuffix(chain, masqueradedSuffix), chainPrefix)
	timeout, err := strconv.ParseUint(text, 10, 32)
	if !ours || err != nil {
		return 0
	}
	return uint32(timeout)
}

// timeouts knows which group has which timeout, by which the chains come and go.
type timeouts struct {
	of     map[plan.Key]uint32
	groups map[uint32]int
}

func newTimeouts(p plan.Plan) timeouts {
	u := timeouts{of: map[plan.Key]uint32{}, groups: map[uint32]int{}}
	for key, value := range p {
		if key.Kind == plan.AffinityTimeout {
			u.set(key, value.Timeout)
		}
	}
	return u
}

// set notes the timeout of a group, or by 0 that it has none any more.
func (u timeouts) set(group plan.Key, timeout uint32) {
	if old, had := u.of[group]; had {
		delete(u.of, group)
		if u.groups[old]--; u.groups[old] == 0 {
			delete(u.groups, old)
		}
	}
	if timeout > 0 {
		u.of[group] = timeout
		u.groups[timeout]++
	}
}

// addTimeouts queues the chains that objects need and that are not there.
func (t *Table) addTimeouts(conn *nftables.Conn, objects plan.Plan) {
	for timeout := range newTimeouts(objects).groups {
		if t.timeouts.groups[timeout] == 0 {
			skeleton{conn, t.table, t.config}.remember(timeout)
		}
	}
}

// noteTimeouts notes what operations that were done change, and removes the chains that
// nobody needs any more.
func (t *Table) noteTimeouts(ctx context.Context, ops []plan.Op) {
	dropped := map[uint32]struct{}{}
	for _, op := range ops {
		if op.Key.Kind == plan.AffinityTimeout {
			dropped[t.timeouts.of[op.Key]] = struct{}{}
			t.timeouts.set(op.Key, op.Value.Timeout)
		}
	}
	for timeout := range dropped {
		if timeout > 0 && t.timeouts.groups[timeout] == 0 {
			// If it stays, Setup removes it.
			_ = t.do(ctx, func(conn *nftables.Conn) error {
				skeleton{conn, t.table, t.config}.forget(timeout)
				return conn.Flush()
			})
		}
	}
}

// unneeded gives the timeouts whose chains are there without need.
func (t *Table) unneeded(ctx context.Context) ([]uint32, error) {
	chains, err := t.chains(ctx)
	if err != nil {
		return nil, err
	}
	var result []uint32
	for _, name := range chains {
		timeout := timeoutOf(name)
		if timeout > 0 && t.timeouts.groups[timeout] == 0 && !slices.Contains(result, timeout) {
			result = append(result, timeout)
		}
	}
	return result, nil
}
