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
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Leaving is one entry of a Ledger.
type Leaving struct {
	Since    time.Time
	Deadline time.Time
	// Connections is how many there were when they were last counted.
	Connections uint32
}

// A Ledger remembers the real servers that are leaving. It is not safe for concurrent
// use. The zero Ledger is not usable; make one with NewLedger.
type Ledger struct {
	leaving map[plan.Key]Leaving
	// perServer counts the leaving real servers of each virtual server.
	perServer map[plan.Key]int
	// parted has the marks of the second views that addresses led to until their Split
	// was taken away; by the keys of the addresses' virtual servers.
	parted map[plan.Key]uint32
	// kept has the virtual servers of single endpoints that are leaving and were pinned for
	// a group of clients, and led the groups of addresses that are not served any more.
	kept map[plan.Key]map[plan.Key]struct{}
	led  map[plan.Key]plan.Key
	// timeouts are those of virtual servers with one of their own.
	timeouts map[plan.Key]time.Duration
	timeout  time.Duration
	revision Revision
}

// NewLedger gives an empty Ledger in which a real server has timeout to finish.
func NewLedger(timeout time.Duration) *Ledger {
	return &Ledger{
		leaving: make(map[plan.Key]Leaving), perServer: make(map[plan.Key]int),
		parted: make(map[plan.Key]uint32), kept: make(map[plan.Key]map[plan.Key]struct{}), led: make(map[plan.Key]plan.Key),
		timeouts: make(map[plan.Key]time.Duration), timeout: timeout,
	}
}

// SetTimeout gives the real servers of a virtual server that begin to leave from now on a time of
// their own to finish; 0 means the Ledger's. It is forgotten when the virtual server goes.
func (l *Ledger) SetTimeout(server plan.Key, timeout time.Duration) {
	if timeout == 0 {
		delete(l.timeouts, server)
		return
	}
	l.timeouts[server] = timeout
}

// Len gives the number of real servers that are leaving.
func (l *Ledger) Len() int { return len(l.leaving) }

// Decide gives what an object is to be like, given what is applied and what the plan wants,
// each with a flag that tells whether it exists. It enters real servers that begin to leave
// and strikes out those that return. Of objects that are decided upon together, those of a
// lower Kind come first, RealServers before all.
func (l *Ledger) Decide(key plan.Key, applied plan.Value, inApplied bool, want plan.Value, inWant bool, now time.Time) (plan.Value, bool) {
	switch key.Kind {
	case plan.Split:
		l.part(key, applied, want, inWant)
	case plan.Pinned:
		l.keep(key, inWant)
	case plan.Affinity, plan.AffinityInside:
		l.lead(key, applied, inWant)
	}
	switch {
	case inWant:
		l.strike(key)
		return want, true
	case !inApplied:
		l.strike(key)
		return plan.Value{}, false
	case leads(key.Kind) && l.drains(key):
		return applied, true
	case key.Kind == plan.VirtualServer:
		delete(l.timeouts, key)
		return plan.Value{}, false
	case key.Kind != plan.RealServer || key.Protocol != model.TCP:
		return plan.Value{}, false
	}
	if _, known := l.leaving[key]; !known {
		l.enter(key, Leaving{Since: now, Deadline: now.Add(l.timeoutOf(key.VirtualServerKey()))})
	}
	applied.Weight = 0
	return applied, true
}

// leading are the kinds of object that lead packets to the virtual server of the same
// address, port and protocol. A Split is not among them: its Divert is enough for
// the connections that there are, and new ones are not to get there. Nor is a Masquerade:
// conntrack remembers what it gave a connection, and new ones may be to keep their source.
var leading = []plan.Kind{plan.VirtualServer, plan.Owned, plan.Divert}

func leads(kind plan.Kind) bool { return kind == plan.OwnedMark || slices.Contains(leading, kind) }

// drains tells whether real servers are leaving the virtual server that an object leads to,
// or, for a Divert, the second view to which it led.
func (l *Ledger) drains(key plan.Key) bool {
	server := key.VirtualServerKey()
	if l.perServer[server] > 0 {
		return true
	}
	if key.Kind == plan.Divert && l.keeps(key) {
		return true
	}
	mark := l.parted[server]
	return key.Kind == plan.Divert && mark != 0 && l.perServer[plan.MarkKey(plan.VirtualServer, mark, key.IPv6())] > 0
}

// part notes the second view of an address whose Split goes.
func (l *Ledger) part(key plan.Key, applied, want plan.Value, inWant bool) {
	server := key.VirtualServerKey()
	old := applied.Mark
	if old == 0 {
		old = l.parted[server]
	}
	draining := l.perServer[plan.MarkKey(plan.VirtualServer, old, key.IPv6())] > 0
	if draining && (!inWant || want.Mark != old) {
		if l.parted[server] != old {
			l.revision.Paths++
		}
		l.parted[server] = old
	} else {
		l.rejoin(server)
	}
}

// rejoin forgets the second view of an address.
func (l *Ledger) rejoin(server plan.Key) {
	if _, known := l.parted[server]; known {
		delete(l.parted, server)
		l.revision.Paths++
	}
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
			entry.Connections = left
			l.leaving[key] = entry
			continue
		}
		l.strike(key)
		finished = append(finished, Finished{Key: key, Since: entry.Since, Cut: left})
		again = append(again, l.leads(key)...)
	}
	return finished, again
}

// leads gives the keys of what leads to the virtual server of a real server.
func (l *Ledger) leads(key plan.Key) []plan.Key {
	server := key.VirtualServerKey()
	if server.Mark == 0 {
		var keys []plan.Key
		for _, kind := range leading {
			lead := server
			lead.Kind = kind
			keys = append(keys, lead)
		}
		return keys
	}
	keys := append([]plan.Key{server, server.OwnedKey()}, l.letGo(server)...)
	for address, mark := range l.parted {
		if mark == server.Mark && address.IPv6() == server.IPv6() {
			address.Kind = plan.Divert
			keys = append(keys, address)
			if l.perServer[server] == 0 {
				address.Kind = plan.VirtualServer
				l.rejoin(address)
			}
		}
	}
	return keys
}

// Finished tells how a real server left: Cut connections were still open at its deadline.
type Finished struct {
	Key   plan.Key
	Since time.Time
	Cut   uint32
}

// Outcome is "clean" if no connection was left, else "cut".
func (f Finished) Outcome() string {
	if f.Cut > 0 {
		return "cut"
	}
	return "clean"
}

// Leaving gives the entries, those whose deadline is first before the others.
func (l *Ledger) Leaving() []Entry {
	entries := make([]Entry, 0, len(l.leaving))
	for key, entry := range l.leaving {
		entries = append(entries, Entry{key, entry})
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(a.Deadline.Compare(b.Deadline), a.Key.Compare(b.Key))
	})
	return entries
}

// LeavingOf gives the real servers of a virtual server that are leaving.
func (l *Ledger) LeavingOf(server plan.Key) iter.Seq[plan.Key] {
	return func(yield func(plan.Key) bool) {
		if l.perServer[server] == 0 {
			return
		}
		for key := range l.leaving {
			if key.VirtualServerKey() == server && !yield(key) {
				return
			}
		}
	}
}

// An Entry is a real server that is leaving.
type Entry struct {
	Key plan.Key
	Leaving
}

func (l *Ledger) timeoutOf(server plan.Key) time.Duration {
	if timeout, own := l.timeouts[server]; own {
		return timeout
	}
	return l.timeout
}

func (l *Ledger) enter(key plan.Key, entry Leaving) {
	l.leaving[key] = entry
	l.perServer[key.VirtualServerKey()]++
	l.revision.Entries++
}

func (l *Ledger) strike(key plan.Key) {
	if _, known := l.leaving[key]; !known {
		return
	}
	delete(l.leaving, key)
	l.revision.Entries++
	server := key.VirtualServerKey()
	if l.perServer[server]--; l.perServer[server] == 0 {
		delete(l.perServer, server)
	}
	if len(l.leaving) == 0 {
		l.leaving = make(map[plan.Key]Leaving) // without the room that a burst needed
	}
}
