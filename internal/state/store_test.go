package state

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mooring-project/mooring/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	web  = model.ServiceKey{Namespace: "shop", Name: "web"}
	api  = model.ServiceKey{Namespace: "shop", Name: "api"}
)

func service(key model.ServiceKey, port uint16) *model.Service {
	return &model.Service{Key: key, Ports: []model.ServicePort{{Port: port}}}
}

func slice(name string, owner model.ServiceKey, addrs ...string) *model.EndpointSlice {
	out := &model.EndpointSlice{Name: name, Service: owner}
	for _, a := range addrs {
		out.Endpoints = append(out.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(a), Ready: true})
	}
	return out
}

// shown is the Services with their slices, sorted.
func shown(s *Snapshot) []string {
	var out []string
	for key, entry := range s.Services() {
		text := fmt.Sprintf("%s:%d", key, entry.Service.Ports[0].Port)
		for _, slice := range entry.Slices {
			text += fmt.Sprintf(" %s%d", slice.Name, len(slice.Endpoints))
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func TestStoreFollowsObjects(t *testing.T) {
	// Each step is one commit on top of those before.
	steps := []struct {
		name   string
		change func(*Txn)
		want   []string
		// same says that the commit must change nothing.
		same bool
	}{
		{name: "slice before its Service", change: func(tx *Txn) { tx.PutSlice(slice("b", web, "10.0.0.1")) }},
		{name: "its Service", change: func(tx *Txn) { tx.PutService(service(web, 80)) }, want: []string{"shop/web:80 b1"}},
		{name: "equal Service", change: func(tx *Txn) { tx.PutService(service(web, 80)) }, want: []string{"shop/web:80 b1"}, same: true},
		{name: "equal slice", change: func(tx *Txn) { tx.PutSlice(slice("b", web, "10.0.0.1")) }, want: []string{"shop/web:80 b1"}, same: true},
		{
			name: "trigger time alone", change: func(tx *Txn) {
				s := slice("b", web, "10.0.0.1")
				s.TriggerTime = noon
				tx.PutSlice(s)
			},
			want: []string{"shop/web:80 b1"}, same: true,
		},
		{name: "second slice sorts first", change: func(tx *Txn) { tx.PutSlice(slice("a", web, "10.0.0.2", "10.0.0.3")) }, want: []string{"shop/web:80 a2 b1"}},
		{name: "changed slice", change: func(tx *Txn) { tx.PutSlice(slice("b", web)) }, want: []string{"shop/web:80 a2 b0"}},
		{name: "another Service", change: func(tx *Txn) { tx.PutService(service(api, 90)) }, want: []string{"shop/api:90", "shop/web:80 a2 b0"}},
		{name: "slice moves", change: func(tx *Txn) { tx.PutSlice(slice("a", api, "10.0.0.2")) }, want: []string{"shop/api:90 a1", "shop/web:80 b0"}},
		{
			name: "slice of the same name elsewhere is another", change: func(tx *Txn) {
				tx.PutSlice(slice("a", model.ServiceKey{Namespace: "x", Name: "y"}, "10.0.0.9"))
			},
			want: []string{"shop/api:90 a1", "shop/web:80 b0"},
		},
		{name: "Service goes", change: func(tx *Txn) { tx.DeleteService(api) }, want: []string{"shop/web:80 b0"}},
		{name: "Service that is gone", change: func(tx *Txn) { tx.DeleteService(api) }, want: []string{"shop/web:80 b0"}, same: true},
		{name: "Service returns and its slice is there", change: func(tx *Txn) { tx.PutService(service(api, 91)) }, want: []string{"shop/api:91 a1", "shop/web:80 b0"}},
		{name: "slice goes", change: func(tx *Txn) { tx.DeleteSlice("shop", "a") }, want: []string{"shop/api:91", "shop/web:80 b0"}},
		{name: "slice that is gone", change: func(tx *Txn) { tx.DeleteSlice("shop", "a") }, want: []string{"shop/api:91", "shop/web:80 b0"}, same: true},
		{name: "nothing", change: func(*Txn) {}, want: []string{"shop/api:91", "shop/web:80 b0"}, same: true},
	}
	store := NewStore()
	for i, step := range steps {
		before := store.Load()
		now := noon.Add(time.Duration(i) * time.Second)
		after := store.Update(now, step.change)
		if diff := cmp.Diff(step.want, shown(after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		checkCommit(t, step.name, before, after, now, step.same)
		if store.Load() != after {
			t.Errorf("%s: Load gives another snapshot than Update", step.name)
		}
	}
}

func checkCommit(t *testing.T, name string, before, after *Snapshot, now time.Time, same bool) {
	t.Helper()
	superseded := false
	select {
	case <-before.Superseded():
		superseded = true
	default:
	}
	if (before == after) != same || superseded == same {
		t.Errorf("%s: same snapshot %v, superseded %v; want unchanged %v", name, before == after, superseded, same)
	}
	if !same && (after.Revision != before.Revision+1 || !after.ChangedAt.Equal(now)) {
		t.Errorf("%s: revision %d after %d, changed at %v", name, after.Revision, before.Revision, after.ChangedAt)
	}
	select {
	case <-after.Superseded():
		t.Errorf("%s: the newest snapshot is superseded", name)
	default:
	}
}

func TestStoreOtherKinds(t *testing.T) {
	node := model.Node{Name: "n1", Zone: "z"}
	pod := model.Pod{Namespace: "shop", Name: "p", Labels: map[string]string{"a": "b"}}
	podKey := PodKey{"shop", "p"}
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	put := func(tx *Txn) {
		n, p := node, pod
		tx.PutNode(&n)
		tx.PutPod(&p)
		tx.PutNamespace(&model.Namespace{Name: "shop"})
		tx.SetServiceCIDRs(prefixes)
		tx.SetSynced()
	}
	remove := func(tx *Txn) {
		tx.DeleteNode("n1")
		tx.DeletePod(podKey)
		tx.DeleteNamespace("shop")
		tx.SetServiceCIDRs(nil)
	}
	store := NewStore()
	empty := store.Load()
	for _, step := range []struct {
		name   string
		change func(*Txn)
		same   bool
		there  bool
	}{
		{"remove what is not there", remove, true, false},
		{"put", put, false, true},
		{"put again", put, true, true},
		{"remove", remove, false, false},
	} {
		before := store.Load()
		after := store.Update(noon, step.change)
		checkCommit(t, step.name, before, after, noon, step.same)
		if there := after.Node("n1") != nil && after.Pod(podKey) != nil && after.Namespace("shop") != nil && len(after.ServiceCIDRs()) == 1; there != step.there {
			t.Errorf("%s: there %v", step.name, there)
		}
	}
	if !store.Load().Synced || empty.Synced {
		t.Error("synced must stay, and hold from its commit on only")
	}
}

// TestChangedServicesIsWhatDiffers compares random histories with a plain account.
func TestChangedServicesIsWhatDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := NewStore()
		snapshots := []*Snapshot{store.Load()}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			snapshots = append(snapshots, store.Update(noon, func(tx *Txn) { oneChange(t, tx) }))
		}
		old, now := rapid.SampledFrom(snapshots).Draw(t, "old"), store.Load()
		got := map[model.ServiceKey]bool{}
		now.ChangedServices(old, func(key model.ServiceKey, before, after *Service) {
			got[key] = true
			if before != old.Service(key) || after != now.Service(key) {
				t.Fatalf("%s: visited with other values than the snapshots have", key)
			}
		})
		for i := range 4 {
			key := serviceNumber(i)
			if different := old.Service(key) != now.Service(key); different != got[key] {
				t.Fatalf("%s: differs %v, visited %v", key, different, got[key])
			}
		}
	})
}

func serviceNumber(i int) model.ServiceKey {
	return model.ServiceKey{Namespace: "shop", Name: fmt.Sprint(i)}
}

func oneChange(t *rapid.T, tx *Txn) {
	key := serviceNumber(rapid.IntRange(0, 3).Draw(t, "service"))
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "slice")
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		tx.PutService(service(key, rapid.Uint16Range(1, 2).Draw(t, "port")))
	case 1:
		tx.DeleteService(key)
	case 2:
		tx.PutSlice(slice(name, key, "10.0.0.1"))
	case 3:
		tx.DeleteSlice("shop", name)
	}
	owners := 0
	tx.EachSlice(func(string, string) { owners++ })
	kept := 0
	for _, entry := range tx.next.services.All() {
		kept += len(entry.Slices)
	}
	if owners != kept {
		t.Fatalf("%d slices are known and %d kept", owners, kept)
	}
}
