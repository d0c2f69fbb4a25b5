package drain

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Memory is what a Ledger knows, as a value that outlives its process: without it the next process
// would give every leaving endpoint its whole time again, and would not know what leads to
// connections whose address is not served any more.
type Memory struct {
	leaving map[plan.Key]Leaving
	parted  map[plan.Key]uint32
	kept    map[plan.Key][]plan.Key
	led     map[plan.Key]plan.Key
}

// Revision tells two states of what a Ledger remembers apart. Paths changes with what leads to
// connections, which has to be kept before it is acted upon; Entries with the rest.
type Revision struct{ Entries, Paths uint64 }

// Revision gives the present one.
func (l *Ledger) Revision() Revision { return l.revision }

// Memory gives a copy of what the Ledger knows.
func (l *Ledger) Memory() Memory {
	m := Memory{leaving: maps.Clone(l.leaving), parted: maps.Clone(l.parted), kept: make(map[plan.Key][]plan.Key), led: maps.Clone(l.led)}
	for group, servers := range l.kept {
		m.kept[group] = slices.SortedFunc(maps.Keys(servers), plan.Key.Compare)
	}
	return m
}

// Len gives the number of endpoints that were leaving.
func (m Memory) Len() int { return len(m.leaving) }

// Resume takes over what an earlier Ledger knew, as far as it is still true: endpoints that the
// data plane holds, as applied tells, and that take no new connections.
func (l *Ledger) Resume(m Memory, applied func(plan.Key) (plan.Value, bool)) {
	for key, entry := range m.leaving {
		if value, there := applied(key); there && value.Weight == 0 && key.Kind == plan.RealServer {
			l.enter(key, entry)
		}
	}
	for server, mark := range m.parted {
		if l.perServer[plan.MarkKey(plan.VirtualServer, mark, server.IPv6())] > 0 {
			l.parted[server] = mark
		}
	}
	for group, servers := range m.kept {
		for _, server := range servers {
			if l.perServer[server] > 0 {
				l.keepServer(group, server)
			}
		}
	}
	for affinity, group := range m.led {
		if len(l.kept[group]) > 0 {
			l.led[affinity] = group
		}
	}
}

// Encode gives a Memory as JSON. Times are written as spans from now, so that they do not depend on
// what the clock is set to: uptime is the time since the machine's start. node is whose it is.
func (m Memory) Encode(node string, now time.Time, uptime time.Duration) ([]byte, error) {
	f := file{Version: fileVersion, Node: node, Uptime: uptime.Seconds()}
	for _, key := range sorted(m.leaving) {
		entry := m.leaving[key]
		f.Leaving = append(f.Leaving, fileEntry{
			RealServer: fromKey(key), Age: now.Sub(entry.Since).Seconds(), Left: entry.Deadline.Sub(now).Seconds(), Connections: entry.Connections,
		})
	}
	for _, server := range sorted(m.parted) {
		f.Parted = append(f.Parted, fileParted{fromKey(server), m.parted[server]})
	}
	for _, group := range sorted(m.kept) {
		for _, server := range m.kept[group] {
			f.Kept = append(f.Kept, filePair{fromKey(group), fromKey(server)})
		}
	}
	for _, affinity := range sorted(m.led) {
		f.Led = append(f.Led, filePair{fromKey(affinity), fromKey(m.led[affinity])})
	}
	text, err := json.MarshalIndent(f, "", " ")
	return append(text, '\n'), err
}

// ErrOtherStart says that a Memory is from before the machine's last start, and so of connections
// that are no more.
var ErrOtherStart = errors.New("it is from before the machine's last start")

// Decode reads what Encode has written for a node.
func Decode(text []byte, node string, now time.Time, uptime time.Duration) (Memory, error) {
	m := Memory{leaving: map[plan.Key]Leaving{}, parted: map[plan.Key]uint32{}, kept: map[plan.Key][]plan.Key{}, led: map[plan.Key]plan.Key{}}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return Memory{}, fmt.Errorf("it is damaged: %w", err)
	}
	ago := uptime - seconds(f.Uptime)
	switch {
	case f.Version != fileVersion:
		return Memory{}, fmt.Errorf("its format is version %d, and this program reads version %d", f.Version, fileVersion)
	case f.Node != node:
		return Memory{}, fmt.Errorf("it is of the node %q, not %q", f.Node, node)
	case ago < 0:
		return Memory{}, ErrOtherStart
	}
	then := now.Add(-ago)
	for _, e := range f.Leaving {
		m.leaving[e.RealServer.key()] = Leaving{
			Since: then.Add(-seconds(e.Age)), Deadline: then.Add(seconds(e.Left)), Connections: e.Connections,
		}
	}
	for _, p := range f.Parted {
		m.parted[p.VirtualServer.key()] = p.Mark
	}
	for _, p := range f.Kept {
		group := p.Of.key()
		m.kept[group] = append(m.kept[group], p.By.key())
	}
	for _, p := range f.Led {
		m.led[p.Of.key()] = p.By.key()
	}
	return m, nil
}

const fileVersion = 1

// file is the form of a Memory on disk.
type file struct {
	Version int          `json:"version"`
	Node    string       `json:"node"`
	Uptime  float64      `json:"uptimeSeconds"`
	Leaving []fileEntry  `json:"leaving"`
	Parted  []fileParted `json:"parted,omitempty"`
	Kept    []filePair   `json:"kept,omitempty"`
	Led     []filePair   `json:"led,omitempty"`
}

type fileEntry struct {
	RealServer  fileKey `json:"realServer"`
	Age         float64 `json:"ageSeconds"`
	Left        float64 `json:"leftSeconds"`
	Connections uint32  `json:"connections"`
}

type fileParted struct {
	VirtualServer fileKey `json:"virtualServer"`
	Mark          uint32  `json:"mark"`
}

type filePair struct {
	Of fileKey `json:"of"`
	By fileKey `json:"by"`
}

// fileKey is the form of a plan.Key on disk.
type fileKey struct {
	Kind     plan.Kind      `json:"kind"`
	Protocol model.Protocol `json:"protocol,omitempty"`
	Addr     netip.Addr     `json:"address,omitzero"`
	Port     uint16         `json:"port,omitempty"`
	Mark     uint32         `json:"mark,omitempty"`
	Pin      uint32         `json:"pin,omitempty"`
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
}

func fromKey(k plan.Key) fileKey {
	return fileKey{k.Kind, k.Protocol, k.Addr, k.Port, k.Mark, k.Pin, k.Endpoint}
}

func (f fileKey) key() plan.Key {
	return plan.Key{Kind: f.Kind, Protocol: f.Protocol, Addr: f.Addr, Port: f.Port, Mark: f.Mark, Pin: f.Pin, Endpoint: f.Endpoint}
}

func sorted[V any](m map[plan.Key]V) []plan.Key {
	return slices.SortedFunc(maps.Keys(m), plan.Key.Compare)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
