package snapshotfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func TestMain(m *testing.M) {
	if directory := os.Getenv(fullDiskEnv); directory != "" {
		os.Exit(fullDisk(directory))
	}
	goleak.VerifyTestMain(m)
}

var (
	asOf     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	identity = Identity{Cluster: "https://10.96.0.1:443", Selection: "all", Node: "n1"}
)

func encoded(t testing.TB, snapshot *state.Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, Header{AsOf: asOf, Identity: identity, Addresses: []string{"192.0.2.1"}}, snapshot); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func seed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	return seed
}

// random makes objects with every field at random.
type random struct{ *rand.Rand }

func (r random) word() string { return fmt.Sprintf("w%d", r.IntN(50)) }

func (r random) words() []string { return several(r, r.word) }

func (r random) addr() netip.Addr {
	if r.IntN(3) == 0 {
		var octets [16]byte
		for i := range octets {
			octets[i] = byte(r.Uint32())
		}
		return netip.AddrFrom16(octets)
	}
	return netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
}

func (r random) prefix() netip.Prefix {
	addr := r.addr()
	return netip.PrefixFrom(addr, r.IntN(addr.BitLen()+1))
}

func (r random) is() bool { return r.IntN(2) == 0 }

func several[T any](r random, one func() T) (list []T) {
	for range r.IntN(4) {
		list = append(list, one())
	}
	return list
}

func (r random) labels() map[string]string {
	if r.is() {
		return nil
	}
	return map[string]string{r.word(): r.word(), r.word(): r.word()}
}

func (r random) protocol() model.Protocol {
	return []model.Protocol{model.TCP, model.UDP, model.SCTP}[r.IntN(3)]
}

func (r random) service(key model.ServiceKey) *model.Service {
	return &model.Service{
		Key: key, Type: model.ServiceType(r.IntN(4)), ClusterIPs: several(r, r.addr), Headless: r.is(), ExternalName: r.word(),
		ExternalIPs: several(r, r.addr), LoadBalancerIPs: several(r, r.addr), LoadBalancerSourceRanges: several(r, r.prefix),
		Ports: several(r, func() model.ServicePort {
			return model.ServicePort{Name: r.word(), Protocol: r.protocol(), Port: uint16(r.Uint32()), NodePort: uint16(r.Uint32())}
		}),
		ExternalTrafficPolicy: model.TrafficPolicy(r.IntN(2)), InternalTrafficPolicy: model.TrafficPolicy(r.IntN(2)),
		HealthCheckNodePort: uint16(r.Uint32()), AffinityTimeout: time.Duration(r.IntN(86400)) * time.Second,
		Selector: r.word(), ProxyName: r.word(), Annotations: r.labels(),
	}
}

func (r random) slice(key model.ServiceKey, name string) *model.EndpointSlice {
	return &model.EndpointSlice{
		Name: name, Service: key, Cluster: r.word(),
		Ports: several(r, func() model.EndpointPort {
			return model.EndpointPort{Name: r.word(), Protocol: r.protocol(), Port: uint16(r.Uint32())}
		}),
		Endpoints: several(r, func() model.Endpoint {
			return model.Endpoint{
				Addr: r.addr(), Ready: r.is(), Serving: r.is(), Terminating: r.is(),
				About: &model.About{Hostname: r.word(), TargetPod: r.word(), Node: r.word(), Zone: r.word(), ForZones: r.words(), ForNodes: r.words()},
			}
		}),
	}
}

func (r random) cluster(services int) *state.Snapshot {
	store := state.NewStore()
	return store.Update(time.Now(), func(tx *state.Txn) {
		for i := range services {
			key := model.ServiceKey{Namespace: r.word(), Name: fmt.Sprint("s", i)}
			tx.PutService(r.service(key))
			for j := range r.IntN(3) {
				tx.PutSlice(r.slice(key, fmt.Sprintf("%s-%d", key.Name, j)))
			}
			tx.PutNamespace(&model.Namespace{Name: r.word()})
			tx.PutNode(&model.Node{Name: r.word(), Addresses: several(r, r.addr), PodCIDRs: several(r, r.prefix), Zone: r.word(), Deleting: r.is(), Taints: r.words()})
			tx.PutPod(&model.Pod{Namespace: r.word(), Name: r.word(), Addresses: several(r, r.addr), HostNetwork: r.is(), Labels: r.labels()})
		}
		tx.SetServiceCIDRs(several(r, r.prefix))
		tx.SetSynced()
	})
}

// text gives all of a snapshot that the model says makes a difference.
func text(s *state.Snapshot) map[string]string {
	all := map[string]string{"cidrs": fmt.Sprint(s.ServiceCIDRs())}
	for key, entry := range s.Services() {
		all["service "+key.String()] = fmt.Sprintf("%+v", *entry.Service)
		for _, slice := range entry.Slices {
			text, err := json.Marshal(slice) // follows pointers
			if err != nil {
				panic(err)
			}
			all["slice "+key.Namespace+"/"+slice.Name] = string(text)
		}
	}
	for name := range s.Namespaces() {
		all["namespace "+name] = ""
	}
	for name, node := range s.Nodes() {
		all["node "+name] = fmt.Sprintf("%+v", *node)
	}
	for key, pod := range s.Pods() {
		all[fmt.Sprint("pod ", key)] = fmt.Sprintf("%+v", *pod)
	}
	return all
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	r := random{rand.New(rand.NewPCG(seed(t), 1))}
	for range 50 {
		want := r.cluster(r.IntN(40))
		contents, err := Decode(bytes.NewReader(encoded(t, want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Header{asOf, identity, []string{"192.0.2.1"}}, contents.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		got := state.NewStore().Restore(time.Now(), contents.AsOf, contents.Fill)
		if diff := cmp.Diff(text(want), text(got)); diff != "" {
			t.Fatalf("objects (-want +got):\n%s", diff)
		}
		got.ChangedServices(want, func(key model.ServiceKey, before, after *state.Service) {
			if before == nil || after == nil || !before.Service.Equal(after.Service) {
				t.Errorf("service %s: %+v, want %+v", key, after, before)
			}
		})
	}
}

// resum gives octets a right checksum.
func resum(octets []byte) []byte {
	body := octets[:max(0, len(octets)-sumSize)]
	sum := crc32.Checksum(body, castagnoli)
	return append(bytes.Clone(body), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func TestDamagedFilesAreRefused(t *testing.T) {
	r := random{rand.New(rand.NewPCG(seed(t), 2))}
	good := encoded(t, r.cluster(2000))
	newer := bytes.Clone(good)
	newer[len(magic)+3]++
	type damage struct {
		situation, want string
		octets          []byte
	}
	tests := []damage{
		{"empty", "not a snapshot", nil},
		{"another file", "not a snapshot", []byte("apiVersion: v1\nkind: Service\n")},
		{"a newer version", "version 2, and this program reads version 1", resum(newer)},
		{"prefix alone", "damaged: 12 octets", prefix()},
		{"prefix and a checksum", "damaged: header", resum(append(prefix(), 0, 0, 0, 0))},
		{"cut, with a right checksum", "damaged", resum(good[:len(good)/2])},
		{"octets appended", "checksum", append(bytes.Clone(good), 0)},
	}
	for cut := 4096; cut < len(good); cut += 4096 {
		tests = append(tests, damage{fmt.Sprint("cut at ", cut), "checksum", good[:cut]})
	}
	for range 200 {
		flipped, at := bytes.Clone(good), prefixSize+r.IntN(len(good)-prefixSize)
		flipped[at] ^= 1 << r.IntN(8)
		tests = append(tests, damage{fmt.Sprint("bit flipped at ", at), "checksum", flipped})
	}
	for _, test := range tests {
		_, err := Decode(bytes.NewReader(test.octets))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.situation, err, test.want)
		}
	}
}

func TestRead(t *testing.T) {
	directory := t.TempDir()
	if _, err := Read(directory); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Read(filepath.Join(directory, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(directory, "snapshot")
	octets, err := Write(path, Header{AsOf: asOf}, random{rand.New(rand.NewPCG(1, 1))}.cluster(10))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != octets {
		t.Errorf("%v %v, want mode 0600 and %d octets", info, err, octets)
	}
	if contents, err := Read(path); err != nil || !contents.AsOf.Equal(asOf) {
		t.Errorf("%v %v", contents, err)
	}
	if left, _ := os.ReadDir(directory); len(left) != 1 {
		t.Errorf("left beside the file: %v", left)
	}
}

func TestCheck(t *testing.T) {
	accept := Acceptance{Identity: identity, MaxAge: time.Hour, Here: func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }}
	for _, test := range []struct {
		situation, want string
		change          func(*Header)
	}{
		{"as it was written", "", func(*Header) {}},
		{"another cluster", `the cluster "https://other:443", not "https://10.96.0.1:443"`, func(h *Header) { h.Identity.Cluster = "https://other:443" }},
		{"another node", `the node "n2", not "n1"`, func(h *Header) { h.Identity.Node = "n2" }},
		{"another selection", "another configuration", func(h *Header) { h.Identity.Selection = "some" }},
		{"another address", "a node with other addresses: [192.0.2.2]", func(h *Header) { h.Addresses = []string{"192.0.2.2"} }},
		{"one address of two", "", func(h *Header) { h.Addresses = []string{"192.0.2.2", "192.0.2.1"} }},
		{"no address", "", func(h *Header) { h.Addresses = nil }},
		{"an address that is none", "other addresses", func(h *Header) { h.Addresses = []string{"x"} }},
		{"as old as may be", "", func(h *Header) { h.AsOf = asOf.Add(-time.Hour) }},
		{"older", "1h0m1s ago, and the limit is 1h0m0s", func(h *Header) { h.AsOf = asOf.Add(-time.Hour - time.Second) }},
		{"clock a little behind", "", func(h *Header) { h.AsOf = asOf.Add(time.Minute) }},
		{"clock jumped back", "6m0s in the future", func(h *Header) { h.AsOf = asOf.Add(6 * time.Minute) }},
	} {
		header := Header{AsOf: asOf, Identity: identity, Addresses: []string{"192.0.2.1"}}
		test.change(&header)
		err := accept.Check(&header, asOf)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.situation, err, test.want)
		}
	}
}

type brokenWriter struct{ room int }

// refused tells whether a write did not fit.
func (w *brokenWriter) refused() bool { return w.room < 0 }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.refused() {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// Two encodings of one snapshot differ in size, since objects come in the order of a map: what
// counts is whether this one was refused a write.
func TestEncodeReportsEveryFailedWrite(t *testing.T) {
	snapshot := random{rand.New(rand.NewPCG(3, 3))}.cluster(20)
	size := len(encoded(t, snapshot))
	refused := 0
	for room := 0; room < size; room += 7 {
		writer := &brokenWriter{room}
		if err := Encode(writer, Header{}, snapshot); (err != nil) != writer.refused() {
			t.Errorf("refused a write: %v, and error %v, with room for %d of about %d octets", writer.refused(), err, room, size)
		}
		if writer.refused() {
			refused++
		}
	}
	if refused < size/7*9/10 {
		t.Errorf("only %d of %d encodings were refused a write", refused, size/7)
	}
}

// FuzzRead mutates files, with their own and with a right checksum: whatever they hold, reading
// them ends with contents that can be used or with an error.
func FuzzRead(f *testing.F) {
	r := random{rand.New(rand.NewPCG(4, 4))}
	f.Add([]byte(nil))
	f.Add(prefix())
	f.Add(encoded(f, r.cluster(0)))
	f.Add(encoded(f, r.cluster(3)))
	f.Fuzz(func(t *testing.T, octets []byte) {
		for _, octets := range [][]byte{octets, resum(octets)} {
			contents, err := Decode(bytes.NewReader(octets))
			if err != nil {
				continue
			}
			snapshot := state.NewIndexedStore().Restore(asOf, contents.AsOf, contents.Fill)
			if err := Encode(io.Discard, contents.Header, snapshot); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
	})
}
