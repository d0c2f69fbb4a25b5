package dataplane_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// udpFlow is a socket that keeps sending to one address.
type udpFlow struct {
	from *host
	to   netip.AddrPort
	conn net.Conn
}

// flows opens a socket on each kind of source to each kind of address.
func (l *lab) flows(t *testing.T, w way) (flows []udpFlow) {
	t.Helper()
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(serviceAddr(w.ipv6), 80), netip.AddrPortFrom(l.node.addr(w.ipv6), 30080), netip.AddrPortFrom(balancerAddr(w.ipv6), 80),
	} {
		for _, from := range []*host{l.pod1, l.node, l.client} {
			conn, err := w.dial(from, to.Addr(), to.Port())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			flows = append(flows, udpFlow{from, to, conn})
		}
	}
	return flows
}

// unanswered sends a datagram that nobody is to answer.
func (f udpFlow) unanswered(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(f.conn, "who\n"); err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s -> %s: %v", f.from.name, f.to, err)
	}
	if err := f.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := f.conn.Read(make([]byte, 64))
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s -> %s: %d bytes, error %v; want none", f.from.name, f.to, n, err)
	}
}

// expect sends one datagram and wants its answer.
func (f udpFlow) expect(t *testing.T, who *host) {
	t.Helper()
	got, err := talk(f.conn)
	if err != nil || len(got) < len(who.name) || got[:len(who.name)] != who.name {
		t.Errorf("%s -> %s: answer %q, error %v; want %s", f.from.name, f.to, got, err, who.name)
	}
}

var udpWays = []way{{false, model.UDP}, {true, model.UDP}}

// The first datagram after the endpoint went may be lost: when the kernel's worker has not
// ended the connection yet, the datagram does, and is dropped (ip_vs_in_hook, old_ct).
func TestUDPFlowMovesWithinOnePacketInterval(t *testing.T) {
	l := newLab(t)
	l.routes()
	for _, w := range udpWays {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			for _, h := range []*host{l.pod2, l.remote} {
				w.serve(t, h, 8080)
			}
			for _, policy := range []func(*model.Service){func(*model.Service) {}, internalLocal} {
				service := w.everywhere(policy)
				endpoints := []*host{l.pod2, l.remote}
				if service.InternalTrafficPolicy == model.Local {
					endpoints = []*host{l.pod2, l.pod2}
				}
				context := l.context()
				l.run(context, l.entry(w, service, endpoints[0]))
				flows := l.flows(t, w)
				for _, f := range flows {
					f.expect(t, endpoints[0])
				}
				l.run(context, l.entry(w, service, endpoints[1]))
				for _, f := range flows {
					if _, err := talkWithin(f.conn, 500*time.Millisecond); err != nil {
						t.Logf("%s -> %s: first datagram after the endpoint went: %v", f.from.name, f.to, err)
					}
					f.expect(t, endpoints[1])
				}
			}
		})
	}
}

func TestUDPSocketThatWasSendingBeforeTheFirstEndpoint(t *testing.T) {
	l := newLab(t)
	l.routes()
	for _, w := range udpWays {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			w.serve(t, l.pod2, 8080)
			for name, before := range map[string]func(c plan.Context, service *model.Service){
				"no Service":   func(c plan.Context, _ *model.Service) { l.run(c) },
				"no endpoints": func(c plan.Context, s *model.Service) { l.run(c, l.entry(w, s)) },
			} {
				for _, service := range []*model.Service{w.everywhere(), w.everywhere(externalLocal)} {
					t.Run(name+", "+service.ExternalTrafficPolicy.String(), func(t *testing.T) {
						l.t = t
						context := l.context()
						before(context, service)
						flows := l.flows(t, w)
						for _, f := range flows {
							f.unanswered(t)
						}
						l.run(context, l.entry(w, service, l.pod2))
						for _, f := range flows {
							f.expect(t, l.pod2)
						}
					})
				}
			}
		})
	}
}
