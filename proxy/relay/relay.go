// Package relay makes NodePorts answer on the node's loopback addresses.
//
// IPVS cannot do it: a packet with a loopback source may not leave the host, and the kernel
// refuses such a destination (crosses_local_route_boundary, net/netfilter/ipvs/ip_vs_xmit.c).
// So a small listener accepts on 127.0.0.1 or ::1 and passes the connection on to the
// NodePort on one of the node's own addresses, where IPVS takes it, as kube-proxy 1.37 does
// in user space (KEP-6032).
package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A Set holds the relays of a node. Its methods may be called from one goroutine at a time;
// the relays themselves run on their own.
type Set struct {
	logger  *slog.Logger
	relays  map[place]*relay
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// place is where a relay listens.
type place struct {
	address  netip.AddrPort
	protocol model.Protocol
}

// relay is one listener and where it passes connections on to; the target may change while
// it runs.
type relay struct {
	listener io.Closer
	target   atomic.Pointer[netip.AddrPort]
}

// NewSet gives an empty Set.
func NewSet(logger *slog.Logger) *Set {
	ctx, cancel := context.WithCancel(context.Background())
	return &Set{logger: logger, relays: make(map[place]*relay), ctx: ctx, cancel: cancel}
}

// Apply starts, redirects or stops the relay that an operation on a plan.Relay names. A
// stopped relay accepts nothing more; connections it has accepted live on.
func (s *Set) Apply(op plan.Op) error {
	at := place{netip.AddrPortFrom(op.Key.Addr, op.Key.Port), op.Key.Protocol}
	current := s.relays[at]
	switch {
	case op.Verb == plan.Delete:
		if current == nil || *current.target.Load() != op.Key.Endpoint {
			return nil // gone, or redirected by an operation that came first
		}
		delete(s.relays, at)
		return current.listener.Close()
	case current != nil:
		current.target.Store(&op.Key.Endpoint)
		return nil
	}
	started := &relay{}
	started.target.Store(&op.Key.Endpoint)
	if err := s.listen(at, started); err != nil {
		return fmt.Errorf("relay %s %s: %w (is another program listening there?)", at.protocol, at.address, err)
	}
	s.relays[at] = started
	return nil
}

func (s *Set) listen(at place, r *relay) error {
	if at.protocol == model.UDP {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at.address))
		if err != nil {
			return err
		}
		r.listener = conn
		s.running.Go(func() { s.serveUDP(conn, r) })
		return nil
	}
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at.address))
	if err != nil {
		return err
	}
	r.listener = listener
	s.running.Go(func() { s.serveTCP(listener, r) })
	return nil
}

// Close stops all relays, cuts what they carry, and returns when all is gone.
func (s *Set) Close() {
	for _, r := range s.relays {
		r.listener.Close()
	}
	s.cancel()
	s.running.Wait()
}
