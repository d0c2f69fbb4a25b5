package differential

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// api is an API server as far as watchers see one: it lists and watches, with label and
// field selectors, and sends the initial events that a client may ask a watch for. Every
// change is kept, so that a watch can begin at any resource version.
type api struct {
	*httptest.Server
	// closing ends the watches.
	closing chan struct{}

	// mu guards what follows.
	mu      sync.Mutex
	version int
	objects map[objectKey]*stored
	history []change
	// more is closed when history has grown.
	more chan struct{}
}

// stored is one version of an object.
type stored struct {
	object  object
	version int
	// plain is the JSON without the resource version, to tell whether an object changed;
	// text is what clients get.
	plain, text []byte
}

// change is one step of the history; before is nil for a new object, after for one that
// is gone.
type change struct {
	version       int
	resource      string
	before, after *stored
}

func startAPI() *api {
	a := &api{version: 1, objects: make(map[objectKey]*stored), more: make(chan struct{}), closing: make(chan struct{})}
	a.Server = httptest.NewServer(a)
	return a
}

// stop ends all watches and the server.
func (a *api) stop() {
	close(a.closing)
	a.Server.Close()
}

// replace makes the given objects all there are. Watchers hear of the objects in last
// after all others.
func (a *api) replace(want, last cluster) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, old := range a.objects {
		if want[key] == nil && last[key] == nil {
			a.version++
			delete(a.objects, key)
			gone := &stored{object: old.object, version: a.version, plain: old.plain}
			gone.text = withVersion(old.plain, a.version)
			a.history = append(a.history, change{version: a.version, resource: key.resource, before: gone})
		}
	}
	for _, objects := range []cluster{want, last} {
		for key, object := range objects {
			if err := a.put(key, object); err != nil {
				return err
			}
		}
	}
	close(a.more)
	a.more = make(chan struct{})
	return nil
}

func (a *api) put(key objectKey, object object) error {
	plain, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	old := a.objects[key]
	if old != nil && string(old.plain) == string(plain) {
		return nil
	}
	a.version++
	next := &stored{object: object, version: a.version, plain: plain, text: withVersion(plain, a.version)}
	a.objects[key] = next
	a.history = append(a.history, change{version: a.version, resource: key.resource, before: old, after: next})
	return nil
}

// withVersion puts a resource version into an object's metadata.
func withVersion(plain []byte, version int) []byte {
	return []byte(strings.Replace(string(plain), `"metadata":{`, fmt.Sprintf(`"metadata":{"resourceVersion":"%d",`, version), 1))
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, err := newFilter(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, known := listKinds[f.resource]; !known {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("watch") == "" {
		a.list(w, f)
		return
	}
	a.watch(w, r, f)
}

func (a *api) list(w http.ResponseWriter, f *filter) {
	a.mu.Lock()
	items, version := a.selected(f), a.version
	a.mu.Unlock()
	kind := listKinds[f.resource]
	fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d"},"items":[`, kind.apiVersion, kind.kind+"List", version)
	for i, item := range items {
		if i > 0 {
			fmt.Fprint(w, ",")
		}
		w.Write(item.text)
	}
	fmt.Fprint(w, "]}")
}

// selected gives what a filter lets through; the caller holds mu.
func (a *api) selected(f *filter) (items []*stored) {
	for key, item := range a.objects {
		if key.resource == f.resource && f.matches(item) {
			items = append(items, item)
		}
	}
	return items
}

// watch sends what has changed since a version, then what changes, until the client goes.
func (a *api) watch(w http.ResponseWriter, r *http.Request, f *filter) {
	flusher := w.(http.Flusher)
	next := a.begin(w, r, f)
	for {
		flusher.Flush()
		a.mu.Lock()
		news, more := a.history[next:], a.more
		a.mu.Unlock()
		for _, c := range news {
			f.send(w, c)
		}
		next += len(news)
		flusher.Flush()
		select {
		case <-more:
		case <-a.closing:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// begin sends the initial events if they are asked for, and gives the place in history
// from which to go on.
func (a *api) begin(w http.ResponseWriter, r *http.Request, f *filter) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, item := range a.selected(f) {
			sendEvent(w, "ADDED", item.text)
		}
		kind := listKinds[f.resource]
		sendEvent(w, "BOOKMARK", fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{%q:"true"}}}`,
			kind.apiVersion, kind.kind, a.version, metav1.InitialEventsAnnotationKey))
		return len(a.history)
	}
	since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")) // none means from the start
	for i, c := range a.history {
		if c.version > since {
			return i
		}
	}
	return len(a.history)
}

func sendEvent(w http.ResponseWriter, kind string, object []byte) {
	fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, object)
}

// filter is what a request selects.
type filter struct {
	resource, namespace string
	labels              labels.Selector
	fields              fields.Selector
}

func newFilter(r *http.Request) (*filter, error) {
	f := new(filter)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	skip := 2 // api/v1
	if parts[0] == "apis" {
		skip = 3 // apis/GROUP/VERSION
	}
	if len(parts) <= skip {
		return nil, fmt.Errorf("path %s: no resource", r.URL.Path)
	}
	parts = parts[skip:]
	if len(parts) == 3 && parts[0] == "namespaces" {
		f.namespace, parts = parts[1], parts[2:]
	}
	f.resource = parts[0]
	var err error
	if f.labels, err = labels.Parse(r.URL.Query().Get("labelSelector")); err != nil {
		return nil, fmt.Errorf("labelSelector: %w", err)
	}
	if f.fields, err = fields.ParseSelector(r.URL.Query().Get("fieldSelector")); err != nil {
		return nil, fmt.Errorf("fieldSelector: %w", err)
	}
	return f, nil
}

func (f *filter) matches(s *stored) bool {
	if s == nil || f.namespace != "" && f.namespace != s.object.GetNamespace() {
		return false
	}
	return f.labels.Matches(labels.Set(s.object.GetLabels())) && f.fields.Matches(fieldsOf(s.object))
}

// send sends a change as a watcher with this filter sees it.
func (f *filter) send(w http.ResponseWriter, c change) {
	if c.resource != f.resource {
		return
	}
	was, is := f.matches(c.before), f.matches(c.after)
	switch {
	case is && was:
		sendEvent(w, "MODIFIED", c.after.text)
	case is:
		sendEvent(w, "ADDED", c.after.text)
	case was && c.after != nil: // it left the selection
		sendEvent(w, "DELETED", withVersion(c.before.plain, c.version))
	case was:
		sendEvent(w, "DELETED", c.before.text)
	}
}
