// Package drain decides how endpoints leave: which are kept at weight 0, for how long, and
// when they may go.
//
// Deleting a TCP real server at once would cut its connections (expire_nodest_conn,
// ip_vs_conn.c), so it stays with weight 0, which takes no new connections, until none is
// left or its deadline has passed. The virtual server and whatever leads packets to it stay
// as long. UDP and SCTP real servers go at once: with weight 0 their flows would stay on a
// dead pod until the IPVS timeout, whereas deletion has the next packet scheduled anew.
//
// The package is pure: what it remembers is a Ledger, time is an argument.
package drain

import (
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Leaving is one entry of a Ledger.
type Leaving struct {
	Since    time.Time
	Deadline time.Time
}

// A Ledger remembers the real servers that are leaving. It is not safe for concurrent
// use. The zero Ledger is not usable; make one with NewLedger.
type Ledger struct {
	leaving map[plan.Key]Leaving
	// perServer counts the leaving real servers of each virtual server.
	perServer map[plan.Key]int
	timeout   time.Duration
}

// NewLedger gives an empty Ledger in which a real server has timeout to finish.
func NewLedger(timeout time.Duration) *Ledger {
	return &Ledger{leaving: make(map[plan.Key]Leaving), perServer: make(map[plan.Key]int), timeout: timeout}
}

// Len gives the number of real servers that are leaving.
func (l *Ledger) Len() int { return len(l.leaving) }

// Decide gives what an object is to be like, given what is applied and what the plan wants,
// each with a flag that tells whether it exists. It enters real servers that begin to leave
// and strikes out those that return.
func (l *Ledger) Decide(key plan.Key, applied plan.Value, inApplied bool, want plan.Value, inWant bool, now time.Time) (plan.Value, bool) {
	switch {
	case inWant:
		l.strike(key)
		return want, true
	case !inApplied:
		l.strike(key)
		return plan.Value{}, false
	case leads(key.Kind) && l.perServer[key.VirtualServerKey()] > 0:
		return applied, true
	case key.Kind != plan.RealServer || key.Protocol != model.TCP:
		return plan.Value{}, false
	}
	if _, known := l.leaving[key]; !known {
		l.enter(key, Leaving{Since: now, Deadline: now.Add(l.timeout)})
	}
	applied.Weight = 0
	return applied, true
}

// leads tells whether objects of a kind lead packets to the virtual server of the same
// address, port and protocol.
func leads(kind plan.Kind) bool {
	return kind == plan.VirtualServer || kind == plan.Owned || kind == plan.Divert || kind == plan.Masquerade
}

// Servers gives the virtual servers whose connections are to be counted.
func (l *Ledger) Servers() []plan.Key {
	servers := make([]plan.Key, 0, len(l.perServer))
	for server := range l.perServer {
		servers = append(servers, server)
	}
	return servers
}

// Finish strikes out the real servers that have no connection left or whose deadline has
// passed: they are to be deleted, and then the keys of what led to their virtual servers,
// given as again, are to be decided upon again. connections gives the number of connections
// of a real server; one that it does not know has none.
func (l *Ledger) Finish(now time.Time, connections map[plan.Key]uint32) (finished []Finished, again []plan.Key) {
	for key, entry := range l.leaving {
		left := connections[key]
		if left > 0 && now.Before(entry.Deadline) {
			continue
		}
		l.strike(key)
		finished = append(finished, Finished{Key: key, Since: entry.Since, Cut: left})
		for _, kind := range []plan.Kind{plan.VirtualServer, plan.Owned, plan.Divert, plan.Masquerade} {
			lead := key
			lead.Kind, lead.Endpoint = kind, netip.AddrPort{}
			again = append(again, lead)
		}
	}
	return finished, again
}

// Finished tells how a real server left: Cut connections were still open at its deadline.
type Finished struct {
	Key   plan.Key
	Since time.Time
	Cut   uint32
}

func (l *Ledger) enter(key plan.Key, entry Leaving) {
	l.leaving[key] = entry
	l.perServer[key.VirtualServerKey()]++
}

func (l *Ledger) strike(key plan.Key) {
	if _, known := l.leaving[key]; !known {
		return
	}
	delete(l.leaving, key)
	server := key.VirtualServerKey()
	if l.perServer[server]--; l.perServer[server] == 0 {
		delete(l.perServer, server)
	}
}
