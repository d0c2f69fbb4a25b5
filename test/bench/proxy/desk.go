package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sync/errgroup"

	"github.com/mooring-project/mooring/test/bench/objects"
	"github.com/mooring-project/mooring/test/bench/proxy/cluster"
	"github.com/mooring-project/mooring/test/controlplane"
)

// desk does for the machine what only the host can: it is asked over HTTP, on loopback.
type desk struct {
	control  *controlplane.ControlPlane
	api      *kubernetes.Clientset
	listener net.Listener
	server   *http.Server
	filled   int // Services so far
}

func openDesk(ctx context.Context, control *controlplane.ControlPlane) (*desk, error) {
	config := control.RESTConfig()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	d := &desk{control: control, api: api}
	if d.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	// The machine asks one thing at a time.
	mux.HandleFunc("/fill", answer(d.fill))
	mux.HandleFunc("/restart", answer(d.restart))
	mux.HandleFunc("/lists", answer(d.lists))
	d.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go d.server.Serve(d.listener) //nolint:errcheck // always http.ErrServerClosed, or the machine notices
	return d, nil
}

// address is where the machine finds the desk: its user network has the host's loopback there.
func (d *desk) address() string {
	return fmt.Sprintf("10.0.2.2:%d", d.listener.Addr().(*net.TCPAddr).Port)
}

func (d *desk) close() { _ = d.server.Close() } // nobody asks any more

// answer makes a handler of what gives a text or an error.
func answer(do func(*http.Request) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := do(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, text)
	}
}

// fill adds Services until there are as many as asked for.
func (d *desk) fill(r *http.Request) (string, error) {
	services, err1 := strconv.Atoi(r.FormValue("services"))
	endpoints, err2 := strconv.Atoi(r.FormValue("endpoints"))
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if d.filled == 0 {
		if err := d.begin(r.Context()); err != nil {
			return "", err
		}
	}
	group, ctx := errgroup.WithContext(r.Context())
	group.SetLimit(32)
	for i := d.filled; i < services; i++ {
		group.Go(func() error { return d.put(ctx)(cluster.Objects(i, endpoints)) })
	}
	d.filled = max(d.filled, services)
	return "", group.Wait()
}

// begin makes what is there at every size.
func (d *desk) begin(ctx context.Context) error {
	node, err := d.api.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	if _, err = d.api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
	for i := range objects.Namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: objects.NamespaceName(i)}}
		if _, err := d.api.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return errors.Join(d.put(ctx)(cluster.DNSObjects()), d.put(ctx)(cluster.MovingObjects(firstEndpoint)))
}

// The node as the lab makes it, and the moving Service's endpoint in the beginning.
const (
	nodeName, nodeAddress = "node-1", "172.30.0.11"
	firstEndpoint         = "10.190.255.1"
)

func (d *desk) put(ctx context.Context) func(*corev1.Service, *discoveryv1.EndpointSlice) error {
	return func(service *corev1.Service, slice *discoveryv1.EndpointSlice) error {
		if _, err := d.api.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
			return err
		}
		_, err := d.api.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{})
		return err
	}
}

// restart has the API server go away and come back. What it writes meanwhile is newer than anything
// a client has heard of, so nobody can go on with a watch.
func (d *desk) restart(r *http.Request) (string, error) {
	d.control.StopAPIServer()
	return "", d.control.StartAPIServer(r.Context())
}

// lists counts the listings of EndpointSlices since the API server's start, streamed ones included.
func (d *desk) lists(r *http.Request) (string, error) {
	text, err := d.api.RESTClient().Get().AbsPath("/metrics").DoRaw(r.Context())
	if err != nil {
		return "", err
	}
	total := 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, labels, _ := strings.Cut(lines.Text(), "{")
		if !strings.Contains(labels, `resource="endpointslices"`) {
			continue
		}
		if name == "apiserver_watch_list_duration_seconds_count" || name == "apiserver_request_total" && strings.Contains(labels, `verb="LIST"`) {
			n, err := strconv.Atoi(labels[strings.LastIndexByte(labels, ' ')+1:])
			if err != nil {
				return "", fmt.Errorf("metric %s: %w", name, err)
			}
			total += n
		}
	}
	return strconv.Itoa(total), lines.Err()
}
