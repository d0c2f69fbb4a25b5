// Package nodeport answers load balancers on the healthCheckNodePort of Services with
// externalTrafficPolicy Local: whether this node has endpoints, and how many, in the form that
// they know from kube-proxy (pkg/proxy/healthcheck/service_health.go).
package nodeport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mooring-project/mooring/proxy/health"
)

// A Check is one port on which a Service's health is asked.
type Check struct {
	Namespace, Name string
	// Address is where to listen; of the unspecified address of a family, on all of that
	// family alone.
	Address netip.AddrPort
}

// A Set holds the servers of a node. Apply may be called from one goroutine at a time; the
// servers run on their own.
type Set struct {
	// Refused, if not nil, is called once for each check whose address cannot be had. It has
	// been logged.
	Refused func(Check, error)

	healthy func() bool
	logger  *slog.Logger
	servers map[Check]*server
	// refused are the checks whose address could not be had, each logged once.
	refused map[Check]struct{}
	running sync.WaitGroup
}

type server struct {
	http  *http.Server
	local atomic.Int64
}

// NewSet gives an empty Set; healthy tells whether the proxy as a whole is.
func NewSet(healthy func() bool, logger *slog.Logger) *Set {
	return &Set{healthy: healthy, logger: logger, servers: make(map[Check]*server), refused: make(map[Check]struct{})}
}

// Apply makes the given checks, each with the number of ready endpoints on this node, those that
// are answered. It returns false if an address could not be had; call it again after a while
// then.
func (s *Set) Apply(want map[Check]int) (complete bool) {
	for check, server := range s.servers {
		if _, wanted := want[check]; !wanted {
			server.http.Close()
			delete(s.servers, check)
		}
	}
	for check := range s.refused {
		if _, wanted := want[check]; !wanted {
			delete(s.refused, check)
		}
	}
	for check, local := range want {
		if s.servers[check] == nil && !s.start(check) {
			continue
		}
		s.servers[check].local.Store(int64(local))
	}
	return len(s.refused) == 0
}

func (s *Set) start(check Check) bool {
	listener, err := listen(check.Address)
	if err != nil {
		if _, known := s.refused[check]; !known {
			s.logger.Error("healthCheckNodePort is not answered: is another program listening there?",
				"service", check.Namespace+"/"+check.Name, "address", check.Address, "err", err)
			if s.Refused != nil {
				s.Refused(check, err)
			}
		}
		s.refused[check] = struct{}{}
		return false
	}
	delete(s.refused, check)
	started := &server{}
	started.http = health.NewHTTP(s.handler(check, started), s.logger)
	s.servers[check] = started
	s.running.Go(func() {
		if err := started.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("healthCheckNodePort is not answered any more", "service", check.Namespace+"/"+check.Name, "address", check.Address, "err", err)
		}
	})
	return true
}

func listen(address netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if address.Addr().Is6() {
		network = "tcp6"
	}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), network, address.String())
	if err != nil {
		return nil, fmt.Errorf("health check on %s: %w", address, err)
	}
	return listener, nil
}

// answer is the body, with kube-proxy's names.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int64 `json:"localEndpoints"`
	ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
}

// handler answers on every path.
func (s *Set) handler(check Check, server *server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := answer{LocalEndpoints: server.local.Load(), ServiceProxyHealthy: s.healthy()}
		a.Service.Namespace, a.Service.Name = check.Namespace, check.Name
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(a.LocalEndpoints, 10))
		if a.LocalEndpoints == 0 || !a.ServiceProxyHealthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "\t")
		encoder.Encode(a) //nolint:errcheck,errchkjson // the probe has gone
	})
}

// Close stops all servers and returns when they are gone.
func (s *Set) Close() {
	for _, server := range s.servers {
		server.http.Close()
	}
	s.running.Wait()
}
