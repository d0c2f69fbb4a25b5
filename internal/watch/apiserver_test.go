package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// An apiServer is as much of an API server as reflectors ask for: LIST, WATCH, streamed
// lists (KEP-3157), lists in pages, metadata alone, bookmarks and compaction. Selectors are
// recorded, not applied.
type apiServer struct {
	t    *testing.T
	http *httptest.Server
	addr string

	// mu guards what follows.
	mu       sync.Mutex
	version  int
	oldest   int // watches from before this are refused with 410
	objects  map[string]map[string]storedObject
	log      []loggedEvent
	changed  chan struct{} // closed and replaced with each change
	cut      chan struct{} // closed to end all streams
	requests []string
	noStream bool // an API server before 1.32
	lossy    bool // watches miss what happens
	oldStyle bool // a server that cannot send metadata alone
	// brokenPage is the page of a list of metadata that is refused, from 1; 0 for none.
	brokenPage int
	pages      map[string]listRest // by continue token
	refuse     map[string]string   // resource -> reason (NotFound, Forbidden, BadFields)
}

type storedObject struct {
	version int
	body    map[string]any
}

// listRest is what of a list is still to be read.
type listRest struct {
	version, page int
	items         []any
}

type loggedEvent struct {
	version   int
	resource  string
	eventType string
	body      map[string]any
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{
		t: t, objects: map[string]map[string]storedObject{}, refuse: map[string]string{}, pages: map[string]listRest{},
		changed: make(chan struct{}), cut: make(chan struct{}), version: 10,
	}
	a.start("127.0.0.1:0")
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *apiServer) start(addr string) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = listener.Addr().String()
	a.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: a}}
	a.http.Start()
}

// stop makes connections to the server be refused.
func (a *apiServer) stop() {
	_ = a.http.Listener.Close() // or a client that is fast begins a stream that Close waits for
	a.dropStreams()
	a.http.CloseClientConnections()
	a.http.Close()
}

// put creates or changes an object.
func (a *apiServer) put(resource string, object metav1.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	object.SetResourceVersion(strconv.Itoa(a.version))
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		a.t.Fatal(err)
	}
	key := object.GetNamespace() + "/" + object.GetName()
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]storedObject{}
	}
	eventType := "ADDED"
	if _, exists := a.objects[resource][key]; exists {
		eventType = "MODIFIED"
	}
	a.objects[resource][key] = storedObject{a.version, body}
	if !a.lossy {
		a.publish(loggedEvent{a.version, resource, eventType, body})
	}
}

// remove deletes an object; silently leaves out the event, as a watch that lost it.
func (a *apiServer) remove(resource, key string, silently bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body := a.objects[resource][key].body
	delete(a.objects[resource], key)
	a.version++
	if !silently && !a.lossy {
		a.publish(loggedEvent{a.version, resource, "DELETED", body})
	}
}

// lose does something that no watch tells.
func (a *apiServer) lose(something func()) {
	a.setLossy(true)
	something()
	a.setLossy(false)
}

func (a *apiServer) setLossy(lossy bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lossy = lossy
}

func (a *apiServer) publish(e loggedEvent) {
	a.log = append(a.log, e)
	close(a.changed)
	a.changed = make(chan struct{})
}

// compact forgets events, so that clients must list again.
func (a *apiServer) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.oldest, a.log = a.version, nil
}

// dropStreams ends all watches.
func (a *apiServer) dropStreams() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.cut)
	a.cut = make(chan struct{})
}

// asked gives the requests so far that contain all parts.
func (a *apiServer) asked(parts ...string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, r := range a.requests {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(r, p) }) {
			n++
		}
	}
	return n
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := path.Base(r.URL.Path)
	q := r.URL.Query()
	a.mu.Lock()
	a.requests = append(a.requests, r.URL.Path+"?"+r.URL.Query().Encode())
	reason, oldest, noStream := a.refuse[resource], a.oldest, a.noStream
	a.mu.Unlock()
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	watching, streamed := q.Get("watch") != "", q.Get("sendInitialEvents") == "true"
	w.Header().Set("Content-Type", "application/json")
	switch {
	case reason == "NotFound":
		fail(w, http.StatusNotFound, reason, "the server could not find the requested resource")
	case reason == "Forbidden":
		fail(w, http.StatusForbidden, reason, resource+" is forbidden")
	case reason == "BadFields" && q.Get("fieldSelector") != "":
		fail(w, http.StatusBadRequest, "BadRequest", "field label not supported")
	case streamed && noStream:
		fail(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden")
	case from != 0 && from < oldest && watching:
		fail(w, http.StatusGone, "Expired", "too old resource version")
	case watching:
		a.stream(w, r, resource, from, streamed)
	default:
		a.list(w, r, resource)
	}
}

func fail(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Code: int32(code), Reason: metav1.StatusReason(reason), Message: message,
	})
}

func (a *apiServer) list(w http.ResponseWriter, r *http.Request, resource string) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	a.mu.Lock()
	defer a.mu.Unlock()
	rest, more := a.pages[q.Get("continue")]
	if !more {
		rest = listRest{version: a.version, items: a.bodies(resource)}
	}
	metadataOnly := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
	if rest.page++; metadataOnly && rest.page == a.brokenPage {
		fail(w, http.StatusGone, "Expired", "the provided continue parameter is too old")
		return
	}
	items, next := rest.items, ""
	if limit > 0 && len(items) > limit {
		items, rest.items = items[:limit], items[limit:]
		next = fmt.Sprintf("%d-%d", rest.version, len(rest.items))
		a.pages[next] = rest
	}
	list := map[string]any{
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(rest.version), "continue": next}, "items": items,
	}
	head(list, resource, "List")
	if metadataOnly && !a.oldStyle {
		list["apiVersion"], list["kind"], list["items"] = "meta.k8s.io/v1", "PartialObjectMetadataList", metadataOf(items)
	}
	_ = json.NewEncoder(w).Encode(list)
}

// bodies gives all objects in the order of their keys. The caller holds mu.
func (a *apiServer) bodies(resource string) []any {
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(a.objects[resource])) {
		items = append(items, a.objects[resource][key].body)
	}
	return items
}

func metadataOf(bodies []any) []any {
	items := []any{}
	for _, body := range bodies {
		items = append(items, map[string]any{"metadata": body.(map[string]any)["metadata"]})
	}
	return items
}

// head sets apiVersion and kind.
func head(body map[string]any, resource, suffix string) {
	types := map[string][2]string{
		"services": {"v1", "Service"}, "namespaces": {"v1", "Namespace"}, "nodes": {"v1", "Node"}, "pods": {"v1", "Pod"},
		"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"}, "servicecidrs": {"networking.k8s.io/v1", "ServiceCIDR"},
		"serviceimports": {"multicluster.x-k8s.io/v1alpha1", "ServiceImport"},
	}
	body["apiVersion"], body["kind"] = types[resource][0], types[resource][1]+suffix
}

func (a *apiServer) stream(w http.ResponseWriter, r *http.Request, resource string, from int, initial bool) {
	flush := http.NewResponseController(w)
	send := func(eventType string, body map[string]any) {
		head(body, resource, "")
		_ = json.NewEncoder(w).Encode(map[string]any{"type": eventType, "object": body})
		_ = flush.Flush()
	}
	a.mu.Lock()
	if initial {
		for _, o := range a.objects[resource] {
			send("ADDED", o.body)
		}
		from = a.version
		send("BOOKMARK", map[string]any{"metadata": map[string]any{
			"resourceVersion": strconv.Itoa(from), "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"},
		}})
	}
	cut := a.cut
	for {
		for _, e := range a.log {
			if e.version > from && e.resource == resource {
				send(e.eventType, e.body)
				from = e.version
			}
		}
		changed := a.changed
		a.mu.Unlock()
		_ = flush.Flush()
		select {
		case <-changed:
		case <-cut:
			return
		case <-r.Context().Done():
			return
		case <-time.After(time.Minute):
			return
		}
		a.mu.Lock()
	}
}
