package survive

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/lab"
)

// mood is how the API server is made to behave.
type mood string

const (
	// honest passes everything on.
	honest mood = "honest"
	// slow has every answer begin seconds late.
	slow mood = "slow"
	// partial breaks every answer off in its middle.
	partial mood = "partial lists"
	// gone answers watches by 410, and ends those that there are.
	gone mood = "410 Gone"
	// unavailable answers everything by 503, unauthorized by 401; both end watches.
	unavailable  mood = "503"
	unauthorized mood = "401"
	// deaf loses the events of the watches that there are.
	deaf mood = "lost events"
)

// gate is where mooring-proxy reaches the API server: a real one, whose answers a test spoils.
type gate struct {
	address string
	running sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	mood   mood
	change chan struct{} // closed when the mood changes
}

// openGate listens by TLS in a namespace and passes requests on as transport does. Its certificate is
// one for tests, which holds whatever the clock says.
func openGate(t *testing.T, ns *lab.Namespace, upstream *url.URL, transport http.RoundTripper) *gate {
	t.Helper()
	g := &gate{address: "127.0.0.1:8001", mood: honest, change: make(chan struct{})}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport:      transport,
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0), // answers are broken off on purpose
		ModifyResponse: g.spoil,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	listener, err := ns.Listen("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.answer(proxy, w, r) }))
	server.Listener.Close()
	server.Listener, server.EnableHTTP2 = listener, true
	server.Config.ErrorLog = proxy.ErrorLog
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		g.running.Wait()
	})
	return g
}

// set changes the mood.
func (g *gate) set(m mood) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mood = m
	close(g.change)
	g.change = make(chan struct{})
}

func (g *gate) now() (mood, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mood, g.change
}

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

func (g *gate) answer(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	refuse := func(code int, reason string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
	}
	mood, _ := g.now()
	switch {
	case mood == gone && isWatch(r):
		refuse(http.StatusGone, "Expired")
		return
	case mood == unavailable:
		refuse(http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	case mood == unauthorized:
		refuse(http.StatusUnauthorized, "Unauthorized")
		return
	case mood == slow:
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
			return
		}
	}
	proxy.ServeHTTP(w, r)
}

// spoil has the body of an answer follow the gate's mood.
func (g *gate) spoil(response *http.Response) error {
	ctx, cancel := context.WithCancel(response.Request.Context())
	body := &spoiled{gate: g, body: response.Body, watch: isWatch(response.Request), cancel: cancel}
	response.Body = body
	if body.watch {
		// One that waits for an event must hear of another mood.
		g.running.Go(func() { body.follow(ctx) })
	}
	return nil
}

// spoiled is the body of an answer.
type spoiled struct {
	gate   *gate
	body   io.ReadCloser
	watch  bool
	cancel context.CancelFunc
	read   int
}

// partialSize is how much of an answer comes through that is broken off.
const partialSize = 300

// Read implements io.Reader.
func (s *spoiled) Read(p []byte) (int, error) {
	for {
		mood, _ := s.gate.now()
		if mood == partial && s.read >= partialSize {
			return 0, io.ErrUnexpectedEOF
		}
		if mood == partial {
			p = p[:min(len(p), partialSize-s.read)]
		}
		n, err := s.body.Read(p)
		s.read += n
		if now, _ := s.gate.now(); now == deaf && s.watch && err == nil {
			continue
		}
		return n, err
	}
}

// Close implements io.Closer.
func (s *spoiled) Close() error {
	s.cancel()
	return s.body.Close()
}

// follow ends a watch when the mood says so.
func (s *spoiled) follow(ctx context.Context) {
	for {
		mood, change := s.gate.now()
		switch mood {
		case gone, partial, unavailable, unauthorized:
			s.body.Close()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-change:
		}
	}
}
