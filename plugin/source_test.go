package mooring

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
)

// kindsOf has the kind and API version of the resources that an API server without objects serves.
var kindsOf = map[string]string{
	"services": `"kind":"Service","apiVersion":"v1"`, "namespaces": `"kind":"Namespace","apiVersion":"v1"`,
	"endpointslices": `"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1"`,
}

// emptyAPI is an API server without objects that counts how many requests wait for the head of
// their answer at one time.
type emptyAPI struct {
	// plain is true if it does not stream lists, as before Kubernetes 1.32.
	plain bool
	// patience is how long a request waits for requests for all other kinds.
	patience time.Duration

	// mu guards what follows.
	mu            sync.Mutex
	waiting, most int
	// crowded is true once requests for all kinds have waited; crowd is closed then.
	crowded bool
	crowd   chan struct{}
}

// ServeHTTP implements http.Handler.
func (a *emptyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.wait()
	w.Header().Set("Content-Type", "application/json")
	kind, query := kindsOf[path.Base(r.URL.Path)], r.URL.Query()
	switch {
	case query.Get("watch") == "":
		fmt.Fprintf(w, `{%s,"metadata":{"resourceVersion":"1"},"items":[]}`, strings.Replace(kind, `",`, `List",`, 1))
		return
	case query.Get("sendInitialEvents") != "" && a.plain:
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		return
	case query.Get("sendInitialEvents") != "":
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{%s,"metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`, kind)
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func (a *emptyAPI) wait() {
	a.mu.Lock()
	a.waiting++
	a.most = max(a.most, a.waiting)
	if a.waiting == len(kindsOf) && !a.crowded {
		a.crowded = true
		close(a.crowd)
	}
	a.mu.Unlock()
	select {
	case <-a.crowd:
	case <-time.After(a.patience):
	}
	a.mu.Lock()
	a.waiting--
	a.mu.Unlock()
}

// TestRequestsToTheAPIServerAreLimited has properties that the stock plugin takes and does not
// obey (D18).
func TestRequestsToTheAPIServerAreLimited(t *testing.T) {
	for name, test := range map[string]struct {
		properties string
		plain      bool
		patience   time.Duration
		// most is how many requests wait at one time, 0 for any number; least how long the
		// sync takes at least.
		most  int
		least time.Duration
	}{
		"no limit":               {"", false, 10 * time.Second, len(kindsOf), 0},
		"apiserver_max_inflight": {"apiserver_max_inflight 1", false, 50 * time.Millisecond, 1, 0},
		// The first of three lists may be asked for at once; watches are not limited.
		"apiserver_qps": {"apiserver_qps 5\napiserver_burst 1", true, 0, 0, 350 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			api := &emptyAPI{plain: test.plain, patience: test.patience, crowd: make(chan struct{})}
			server := httptest.NewServer(api)
			defer server.Close()
			m, err := Parse(caddy.NewTestController("dns", "mooring cluster.local {\nendpoint "+server.URL+"\n"+test.properties+"\n}"))
			if err != nil {
				t.Fatal(err)
			}
			sources, err := m.open()
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			f := &feed{sources: sources, patience: 20 * time.Second, follow: func(ctx context.Context) { <-ctx.Done() }}
			f.start()
			defer f.stop() //nolint:errcheck // always nil
			if !m.Ready() {
				t.Fatal("not synced")
			}
			if took := time.Since(begin); test.most > 0 && api.most != test.most || took < test.least {
				t.Errorf("%d requests at a time, want %d; synced after %s, want at least %s", api.most, test.most, took, test.least)
			}
		})
	}
}
