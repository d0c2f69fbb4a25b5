package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// udpIdle ends a flow in which nothing came back for so long; it is the kernel's own
	// timeout for UDP streams (nf_conntrack_udp_timeout_stream).
	udpIdle = 120 * time.Second
	// maxDatagram is the largest UDP payload.
	maxDatagram = 65535
)

// flows holds one socket towards the target for each client.
type flows struct {
	mu sync.Mutex
	// byClient is guarded by mu.
	byClient map[netip.AddrPort]*net.UDPConn
}

// serveUDP passes datagrams on until the listener is closed.
func (s *Set) serveUDP(listener *net.UDPConn, r *relay) {
	open := flows{byClient: make(map[netip.AddrPort]*net.UDPConn)}
	defer open.closeAll()
	stop := context.AfterFunc(s.ctx, open.closeAll)
	defer stop()
	buffer := make([]byte, maxDatagram)
	for {
		n, client, err := listener.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier reply; the socket is fine
		}
		server, isNew := open.to(client, *r.target.Load())
		if server == nil {
			continue
		}
		if isNew {
			s.running.Go(func() {
				returnUDP(listener, client, server)
				open.remove(client, server)
			})
		}
		server.Write(buffer[:n]) //nolint:errcheck // a lost datagram is UDP's business
	}
}

// returnUDP passes replies back to the client until the flow is idle or refused.
func returnUDP(listener *net.UDPConn, client netip.AddrPort, server *net.UDPConn) {
	buffer := make([]byte, maxDatagram)
	for {
		server.SetReadDeadline(time.Now().Add(udpIdle)) //nolint:errcheck // fails on a closed socket only, as Read does
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		listener.WriteToUDPAddrPort(buffer[:n], client) //nolint:errcheck // a lost datagram is UDP's business
	}
}

// to gives the socket of a client's flow, nil if none can be had.
func (f *flows) to(client, target netip.AddrPort) (conn *net.UDPConn, isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if conn, known := f.byClient[client]; known {
		return conn, false
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target))
	if err != nil {
		return nil, false
	}
	f.byClient[client] = conn
	return conn, true
}

func (f *flows) remove(client netip.AddrPort, conn *net.UDPConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn.Close()
	if f.byClient[client] == conn {
		delete(f.byClient, client)
	}
}

func (f *flows) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.byClient {
		conn.Close()
	}
}
