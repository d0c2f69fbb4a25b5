package proxy

import (
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mooring-project/mooring/test/hostile"
)

// careless is an API server that has checked nothing of what it delivers.
type careless struct {
	mu sync.Mutex
	// What follows is guarded by mu.
	version  int
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	changed  chan struct{} // closed by the next change
}

// set replaces all objects, beside one Service that is in order.
func (c *careless) set(services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) {
	good := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "good"}}
	good.Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.20", Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "good-1", Labels: map[string]string{discoveryv1.LabelServiceName: "good"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: new(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.9"}}},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.services, c.slices = append(services, good), append(endpointSlices, slice)
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

// ServeHTTP answers lists. A watch ends with the next change, and then begins by a list.
func (c *careless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	version, changed := c.version, c.changed
	lists := map[string]any{
		"services":       &corev1.ServiceList{TypeMeta: metav1.TypeMeta{Kind: "ServiceList", APIVersion: "v1"}, Items: values(c.services)},
		"endpointslices": &discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}, Items: values(c.slices)},
		"nodes": &corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}, Items: []corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.30.0.11"}}},
		}}},
	}
	c.mu.Unlock()
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	list, known := lists[resource].(metav1.ListInterface)
	query := r.URL.Query()
	switch {
	case !known:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case query.Get("sendInitialEvents") != "":
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case query.Get("watch") == "" || query.Get("watch") == "false":
		list.SetResourceVersion(strconv.Itoa(version))
		answer(w, http.StatusOK, list)
	case query.Get("resourceVersion") != strconv.Itoa(version):
		refuse(w, http.StatusGone, metav1.StatusReasonExpired)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
	}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	answer(w, code, &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason})
}

func answer(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(object) //nolint:errcheck,errchkjson // the client has gone
}

func values[T any](pointers []*T) (all []T) {
	for _, p := range pointers {
		all = append(all, *p)
	}
	return all
}

// serve has the server answer on the node's loopback address.
func (c *careless) serve(n *node, address string) {
	n.t.Helper()
	var listener net.Listener
	var err error
	n.namespace.Do(func() { listener, err = net.Listen("tcp", address) })
	if err != nil {
		n.t.Fatal(err)
	}
	server := &http.Server{Handler: c} //nolint:gosec // of a test
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }() // ends by Close
	n.t.Cleanup(func() { server.Close(); <-ended })
}

// others gives what the kernel holds that is not ours.
func (n *node) others() string {
	return n.shell("nft list ruleset inet 2>/dev/null | awk '/^table inet mooring/{skip=1} !skip{print} /^}/{skip=0}'; ipvsadm -Sn | grep 192.0.2; " +
		"ip rule show | grep -v 20046; ip -6 rule show | grep -v 20046; ip route show table all | grep -v 20046; ip -6 route show table all | grep -v 20046; ip addr show | grep inet")
}

// TestHostileObjects delivers objects that no API server should. What is not ours in the kernel stays
// as it is, whatever is in order is served, the node counts as healthy, and each thing that is left
// out is told once.
func TestHostileObjects(t *testing.T) {
	const address, rounds = "127.0.0.1:7001", 5
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MOORING_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64) // the log tells which it was
	}
	t.Logf("MOORING_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	n := newNode(t, "")
	n.shell("ip link add eth0 type dummy && ip link set eth0 up && ip addr add 172.30.0.12/24 dev eth0") // it has a broadcast address
	n.pod("10.244.1.9")
	n.shell("ipvsadm -A -t 192.0.2.1:80 -s wrr && ipvsadm -a -t 192.0.2.1:80 -r 192.0.2.2:80 -m; nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c accept; ip rule add fwmark 7 lookup 700")
	source := []string{"--source=kubernetes", "--master=http://" + address}
	server := &careless{}
	server.set(nil, nil)
	server.serve(n, address)
	n.process = n.command(source...)
	n.start()
	n.want("started", "10256/healthz", 200, "lastUpdated")
	n.settled()
	before := n.others()
	for round := range rounds {
		choices := make([]byte, 2048)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		server.set(hostile.Objects(choices))
		n.awaitVerified(source, round)
		n.want("hostile objects", "10256/healthz", 200, "lastUpdated")
		if err := n.dial("10.96.0.20:80"); err != nil {
			t.Errorf("round %d: the Service that is in order: %v", round, err)
		}
		if after := n.others(); after != before {
			t.Fatalf("round %d: what is not ours has changed (-before +after):\n%s", round, cmp.Diff(before, after))
		}
	}
	server.set(nil, nil)
	n.awaitVerified(source, rounds)
	checkToldOnce(t, n.log.String(), rounds)
}

// settled waits until the kernel has no address left to look for a second owner of, after which it
// adds routes itself (addrconf_dad_completed, addrconf.c).
func (n *node) settled() {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); n.shell("ip -6 address show tentative") != ""; time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			n.t.Fatal("addresses stay tentative")
		}
	}
}

// awaitVerified waits until the kernel is as it should be, but for real servers that it takes
// from nobody: the broadcast address of its own network.
func (n *node) awaitVerified(source []string, round int) {
	n.t.Helper()
	text := ""
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(pollEvery) {
		var status int
		if text, status = n.ask("verify", source...); status == 0 {
			return
		}
		wrong := 0
		for line := range strings.Lines(text) {
			if strings.Contains(line, "real-server") && !strings.Contains(line, "172.30.0.255") || strings.Contains(line, "virtual-server") || strings.Contains(line, "divert") {
				wrong++
			}
		}
		if wrong == 0 && strings.Contains(text, "172.30.0.255") {
			return
		}
	}
	n.t.Fatalf("round %d: the kernel is not as it should be:\n%s", round, text)
}

// checkToldOnce looks for lines that say the same of the same object.
func checkToldOnce(t *testing.T, log string, rounds int) {
	t.Helper()
	said := map[string]int{}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "left out parts of an object") && !strings.Contains(line, "part of a Service has no effect") {
			continue
		}
		_, what, _ := strings.Cut(line, " ") // without the time
		said[what]++
	}
	if len(said) == 0 {
		t.Error("nothing was told")
	}
	for what, times := range said {
		// Each set of objects may have the same fault anew.
		if times > rounds {
			t.Errorf("told %d times: %s", times, what)
		}
	}
	if strings.Contains(log, "panic") {
		t.Error("it panicked")
	}
}
