package mooring

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/state"
)

const pluginName = "mooring"

// Mooring is the plugin: it answers the names of Services from the newest snapshot in
// its Store. It is safe for concurrent use once it serves.
type Mooring struct {
	// Next is the next plugin in the chain.
	Next plugin.Handler
	// Store holds the state of the cluster; whoever builds a Mooring without a source
	// fills it. It must have an address index (state.NewIndexedStore).
	Store *state.Store
	// Imports holds the Services of the multicluster zones; nil if there are none.
	Imports *state.Store
	// Upstream resolves targets of ExternalName Services outside our zones.
	Upstream Upstream

	config
	source   sourceConfig
	snapshot snapshotConfig
	// keepings are the files on disk; none without the property snapshot.
	keepings []keeping
	// hostSearch is what autopath appends to the search path.
	hostSearch []string
	// turns counts answers that did not fit, to begin each elsewhere.
	turns     atomic.Uint32
	freshness freshness
	// stale says how old the data is once that is too old, nil before.
	stale atomic.Pointer[string]
	// since is when the plugin was made, to say for how long it has not been synced.
	since time.Time
}

// Upstream resolves a name with the whole server; upstream.Upstream of CoreDNS does.
type Upstream interface {
	Lookup(ctx context.Context, state request.Request, name string, rrtype uint16) (*dns.Msg, error)
}

// Name implements plugin.Handler.
func (m *Mooring) Name() string { return pluginName }

// Ready implements ready.Readiness: true once every kind of object has been listed, and,
// if so configured, the data is fresh.
func (m *Mooring) Ready() bool {
	return m.settled() && (!m.freshness.unready || m.stale.Load() == nil)
}

// ServeDNS implements plugin.Handler.
func (m *Mooring) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if len(r.Question) != 1 {
		return dns.RcodeFormatError, nil
	}
	q := question{Question: r.Question[0]}
	n, ours := parseName(m.zones, q.Name)
	if !ours || q.Qclass != dns.ClassINET && !m.stock {
		return plugin.NextOrFailure(pluginName, m.Next, ctx, w, r)
	}
	if q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	if q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA {
		q.room, q.turn = room(w, r), m.turns.Load()
	}
	snap := m.view(n.zone)
	a := m.answerQuestion(snap, q, &n)
	if m.passesOn(&a, &n) {
		return plugin.NextOrFailure(pluginName, m.Next, ctx, w, r)
	}
	if a.cut {
		m.turns.Add(uint32(len(a.records)))
	}
	reply := m.reply(snap, &n, &a, r)
	if a.follow != "" {
		m.followOutside(ctx, w, r, reply, a.follow)
		if len(reply.Answer) == 0 { // as the stock plugin has it if nothing is found
			reply.Ns = []dns.RR{m.soa(snap, &n, m.negativeTTL)}
		}
	}
	if err := w.WriteMsg(reply); err != nil {
		log.Debugf("write to %s: %s", w.RemoteAddr(), err)
	}
	// The rcode of the message itself is not returned: plugins take a failure code to
	// mean that nothing has been written yet.
	return dns.RcodeSuccess, nil
}

// passesOn tells whether the next plugin shall answer. Only a verdict that is sure falls
// through: before the sync, names of ours would leak to the upstream.
func (m *Mooring) passesOn(a *answer, n *name) bool {
	missing := a.outcome == nameError || a.outcome == unsure && m.stock
	return missing && len(a.records) == 0 && m.fallsThrough(n.full)
}

// reply makes an answer a message.
func (m *Mooring) reply(snap view, n *name, a *answer, r *dns.Msg) *dns.Msg {
	reply := newReply(r, a.outcome.rcode())
	reply.Answer, reply.Extra, reply.Truncated = a.records, a.extra, a.cut
	if stale, is := m.staleness(snap, a); is && r.IsEdns0() != nil {
		reply.Extra = append(reply.Extra, explained(stale))
	}
	if a.outcome == success {
		return reply
	}
	in := n
	if a.in != nil {
		in = a.in
	}
	reply.Ns = []dns.RR{m.soa(snap, in, m.negativeTTL)}
	switch opt := reply.IsEdns0(); {
	case opt != nil:
		opt.Option = append(opt.Option, m.explain(n, a).option())
	case r.IsEdns0() != nil:
		reply.Extra = append(reply.Extra, explained(m.explain(n, a)))
	}
	return reply
}

// followOutside completes a reply that ends in an alias to a name outside our zones.
func (m *Mooring) followOutside(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, reply *dns.Msg, target string) {
	found, err := m.lookup(ctx, request.Request{W: w, Req: r}, target)
	if m.stock {
		if err != nil || found == nil {
			reply.Answer = nil
			return
		}
		found.Rcode, found.Ns = dns.RcodeSuccess, nil
	}
	if err != nil || found == nil {
		reply.Rcode = dns.RcodeServerFailure
		return
	}
	reply.Rcode = found.Rcode
	reply.Truncated = found.Truncated
	reply.Answer = append(reply.Answer, found.Answer...)
	if len(found.Answer) == 0 {
		reply.Ns = found.Ns
	}
}

// lookupDepth is the context key that counts lookups within lookups.
type lookupDepth struct{}

// lookup asks the upstream. An alias can lead back to us by way of another plugin; such
// a circle ends after maxAliases rounds.
func (m *Mooring) lookup(ctx context.Context, state request.Request, target string) (*dns.Msg, error) {
	depth, _ := ctx.Value(lookupDepth{}).(int)
	if depth >= maxAliases || m.Upstream == nil {
		return nil, nil
	}
	ctx = context.WithValue(ctx, lookupDepth{}, depth+1)
	return m.Upstream.Lookup(ctx, state, target, state.QType())
}

// room gives the number of addresses that fit in a client's UDP buffer at best: 12
// octets of header, the question, and 16 octets a record with its owner compressed.
// It is 0, any number, for other transports, and for clients that want signatures,
// which must cover all records.
func room(w dns.ResponseWriter, r *dns.Msg) int {
	if _, udp := w.RemoteAddr().(*net.UDPAddr); !udp {
		return 0
	}
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		if opt.Do() {
			return 0
		}
		size = max(size, int(opt.UDPSize()))
	}
	return (size - 12 - len(r.Question[0].Name) - 5) / 16
}
