package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// object is what the API server keeps.
type object interface {
	metav1.Object
	runtime.Object
}

// apiServer is an API server for watchers that stream their lists (KEP-3157) in protobuf,
// as client-go does by default.
type apiServer struct {
	encoder *protobuf.Serializer
	addr    string
	server  *http.Server

	// mu guards what follows.
	mu      sync.Mutex
	version int
	oldest  int // watches from before this get 410
	added   map[string]map[string][]byte
	history []event
	more    chan struct{} // closed and replaced with each change
	cut     chan struct{} // closed to end all streams
	// lists counts the streamed lists that have been sent completely.
	lists int
}

// event is a change, framed as it goes over the wire.
type event struct {
	version  int
	resource string
	frame    []byte
}

func newAPIServer() *apiServer {
	scheme := runtime.NewScheme()
	return &apiServer{
		encoder: protobuf.NewSerializer(scheme, scheme), version: 1, added: make(map[string]map[string][]byte),
		more: make(chan struct{}), cut: make(chan struct{}),
	}
}

// start listens at the address it had before, or at a free port.
func (a *apiServer) start() error {
	if a.addr == "" {
		a.addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", a.addr)
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	a.addr = listener.Addr().String()
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go a.server.Serve(listener) //nolint:errcheck // always http.ErrServerClosed, or the clients notice
	return nil
}

// stop ends all streams and refuses connections.
func (a *apiServer) stop() error {
	a.mu.Lock()
	close(a.cut)
	a.cut = make(chan struct{})
	a.mu.Unlock()
	return a.server.Close()
}

// forget drops the history, so that clients must list again.
func (a *apiServer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.oldest, a.history, a.lists = a.version, nil, 0
}

// waitLists waits until so many lists have been sent since the last forget.
func (a *apiServer) waitLists(ctx context.Context, n int) error {
	for ctx.Err() == nil {
		a.mu.Lock()
		done, more := a.lists >= n, a.more
		a.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("waiting for %d lists: %w", n, ctx.Err())
}

// put adds or changes an object.
func (a *apiServer) put(resource string, o object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	o.SetResourceVersion(strconv.Itoa(a.version))
	added, err := a.frame("ADDED", o)
	if err != nil {
		return err
	}
	if a.added[resource] == nil {
		a.added[resource] = make(map[string][]byte)
	}
	key := o.GetNamespace() + "/" + o.GetName()
	news := added
	if a.added[resource][key] != nil {
		if news, err = a.frame("MODIFIED", o); err != nil {
			return err
		}
	}
	a.added[resource][key] = added
	a.history = append(a.history, event{a.version, resource, news})
	a.wake()
	return nil
}

// wake tells all who wait for more; the caller holds mu.
func (a *apiServer) wake() {
	close(a.more)
	a.more = make(chan struct{})
}

// frame encodes a watch event, preceded by its length in four octets.
func (a *apiServer) frame(kind string, o runtime.Object) ([]byte, error) {
	var body bytes.Buffer
	if err := a.encoder.Encode(o, &body); err != nil {
		return nil, fmt.Errorf("encode %T: %w", o, err)
	}
	event := metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: body.Bytes()}}
	raw, err := event.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode watch event: %w", err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...), nil
}

// ServeHTTP implements http.Handler.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource, query := path.Base(r.URL.Path), r.URL.Query()
	since, _ := strconv.Atoi(query.Get("resourceVersion")) // none is 0
	streamed := query.Get("sendInitialEvents") == "true"
	a.mu.Lock()
	known, gone := a.added[resource] != nil, !streamed && since < a.oldest
	a.mu.Unlock()
	switch {
	case !known:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case query.Get("watch") == "" || !strings.Contains(r.Header.Get("Accept"), "protobuf"):
		refuse(w, http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable)
	case gone:
		refuse(w, http.StatusGone, metav1.StatusReasonExpired)
	default:
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
		a.watch(w, r, resource, since, streamed)
	}
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
}

// watch sends the list if it is asked for, then changes until somebody ends it.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string, since int, streamed bool) {
	flusher := w.(http.Flusher)
	if streamed {
		version, err := a.sendList(w, resource)
		if err != nil {
			return
		}
		since = version
	}
	for {
		flusher.Flush()
		a.mu.Lock()
		news, more, cut := a.after(since), a.more, a.cut
		a.mu.Unlock()
		for _, e := range news {
			since = e.version
			if e.resource == resource {
				if _, err := w.Write(e.frame); err != nil {
					return // the watcher has gone
				}
			}
		}
		flusher.Flush()
		select {
		case <-more:
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// after gives the changes since a version; the caller holds mu.
func (a *apiServer) after(version int) []event {
	i := len(a.history)
	for i > 0 && a.history[i-1].version > version {
		i--
	}
	return a.history[i:]
}

// sendList sends all objects and the bookmark that ends them.
func (a *apiServer) sendList(w http.ResponseWriter, resource string) (int, error) {
	a.mu.Lock()
	version := a.version
	frames := make([][]byte, 0, len(a.added[resource])+1)
	for _, frame := range a.added[resource] {
		frames = append(frames, frame)
	}
	a.mu.Unlock()
	end, err := a.frame("BOOKMARK", bookmark(resource, version))
	if err != nil {
		return 0, err
	}
	var broken error
	for _, frame := range append(frames, end) {
		_, err := w.Write(frame)
		broken = errors.Join(broken, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	a.wake()
	return version, broken
}

// bookmark is the object that ends a streamed list.
func bookmark(resource string, version int) runtime.Object {
	meta := metav1.ObjectMeta{
		ResourceVersion: strconv.Itoa(version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}
	switch resource {
	case "services":
		return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta}
	case "endpointslices":
		return &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: meta}
	default:
		return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta}
	}
}
