package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mooring-project/mooring/internal/model"
)

// testSeed gives the seed of a random test, TEST_SEED if set, and logs it.
func testSeed(t *testing.T) uint64 {
	t.Helper()
	chosen := rand.Uint64()
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if chosen, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TEST_SEED=%d", chosen)
	return chosen
}

// randomAddr is one of few addresses of both families, so that they collide and share
// prefixes.
func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(2) * 16), byte(r.IntN(40))})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", r.IntN(3), r.IntN(40)))
}

func TestAddrMapAgainstAPlainMap(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 1))
	var m, seen addrMap[int]
	want := make(map[netip.Addr]int)
	wantSeen := maps.Clone(want)
	by := new(author)
	for step := range 20_000 {
		addr := randomAddr(r)
		if r.IntN(2) == 0 {
			m, want[addr] = m.set(addr, step+1, by), step+1
		} else {
			m = m.delete(addr, by)
			delete(want, addr)
		}
		other := randomAddr(r)
		if got := m.get(other); got != want[other] {
			t.Fatalf("step %d: %s is %d, want %d", step, other, got, want[other])
		}
		if step%20 == 0 {
			prefix, _ := other.Prefix(4 * r.IntN(other.BitLen()/4+1))
			checkIn(t, step, m, want, prefix)
			checkIn(t, step, seen, wantSeen, prefix) // what others have seen must not change
			seen, wantSeen, by = m, maps.Clone(want), new(author)
		}
	}
	for addr := range want {
		m = m.delete(addr, by)
	}
	if m.v4 != nil || m.v6 != nil {
		t.Error("branches are left after the last address")
	}
}

func checkIn(t *testing.T, step int, m addrMap[int], want map[netip.Addr]int, prefix netip.Prefix) {
	t.Helper()
	if diff := cmp.Diff(thoseIn(want, prefix), maps.Collect(m.in(prefix)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Fatalf("step %d: addresses in %s (-want +got):\n%s", step, prefix, diff)
	}
}

func thoseIn(addrs map[netip.Addr]int, prefix netip.Prefix) map[netip.Addr]int {
	found := make(map[netip.Addr]int)
	for addr, value := range addrs {
		if prefix.Contains(addr) {
			found[addr] = value
		}
	}
	return found
}

// TestAddressIndexFollowsTheObjects changes objects at random and compares the index
// with one made from scratch.
func TestAddressIndexFollowsTheObjects(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 2))
	store := NewIndexedStore()
	for step := range 3_000 {
		store.Update(time.Time{}, func(tx *Txn) { randomChange(r, tx) })
		if diff := cmp.Diff(usesFromScratch(store.Load()), usesOf(store.Load())); diff != "" {
			t.Fatalf("step %d (-want +got):\n%s", step, diff)
		}
	}
}

func randomChange(r *rand.Rand, tx *Txn) {
	key := model.ServiceKey{Namespace: "n", Name: string(rune('a' + r.IntN(3)))}
	slice := fmt.Sprintf("slice-%d", r.IntN(3))
	switch r.IntN(6) {
	case 0:
		tx.PutService(&model.Service{Key: key, ClusterIPs: []netip.Addr{randomAddr(r)}})
	case 1:
		tx.DeleteService(key)
	case 2:
		tx.DeleteSlice("n", slice)
	case 3:
		pod := &model.Pod{Namespace: "n", Name: string(rune('p' + r.IntN(3))), Addresses: []netip.Addr{randomAddr(r)}}
		tx.PutPod(pod)
	case 4:
		tx.DeletePod(PodKey{"n", string(rune('p' + r.IntN(3)))})
	default:
		var endpoints []model.Endpoint
		for range r.IntN(5) {
			endpoints = append(endpoints, model.Endpoint{Addr: randomAddr(r)})
		}
		tx.PutSlice(&model.EndpointSlice{Name: slice, Service: key, Endpoints: endpoints})
	}
}

// everyAddr are all addresses that randomAddr can give.
func everyAddr() (all []netip.Addr) {
	for a := range 3 {
		for b := range 40 {
			for c := range 2 {
				all = append(all, netip.AddrFrom4([4]byte{10, byte(a), byte(c * 16), byte(b)}))
			}
			all = append(all, netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", a, b)))
		}
	}
	return all
}

func usesOf(snap *Snapshot) map[string]string {
	got := make(map[string]string)
	for _, addr := range everyAddr() {
		if use := snap.Address(addr); use != nil {
			text := fmt.Sprint(use.Services)
			for _, pod := range use.Pods {
				text += " " + pod.Name
			}
			got[addr.String()] = text
		}
	}
	return got
}

func usesFromScratch(snap *Snapshot) map[string]string {
	fresh := NewIndexedStore()
	fresh.Update(time.Time{}, func(tx *Txn) {
		for key, entry := range snap.services.All() {
			tx.setService(key, entry)
		}
		for _, pod := range snap.Pods() {
			tx.PutPod(pod)
		}
	})
	return usesOf(fresh.Load())
}
