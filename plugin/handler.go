package mooring

import (
	"context"

	"github.com/coredns/coredns/plugin"
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
	// fills it.
	Store *state.Store

	config
	source sourceConfig
}

// Name implements plugin.Handler.
func (m *Mooring) Name() string { return pluginName }

// Ready implements ready.Readiness: true once every kind of object has been listed.
func (m *Mooring) Ready() bool { return m.Store.Load().Synced }

// ServeDNS implements plugin.Handler.
func (m *Mooring) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := r.Question[0]
	n, ours := parseName(m.zones, q.Name)
	if !ours {
		return m.next(ctx, w, r)
	}
	if q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	snap := m.Store.Load()
	a := m.answerQuestion(snap, q, &n)
	if a.outcome == nameError && m.fallsThrough(n.full) {
		return m.next(ctx, w, r)
	}
	reply := newReply(r, a.outcome.rcode())
	reply.Answer = a.records
	if a.outcome != success {
		reply.Ns = []dns.RR{m.soa(snap, &n)}
	}
	// The rcode of the message itself is not returned: plugins take a failure code to
	// mean that nothing has been written yet.
	if err := w.WriteMsg(reply); err != nil {
		log.Debugf("write to %s: %s", w.RemoteAddr(), err)
	}
	return dns.RcodeSuccess, nil
}

func (m *Mooring) next(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure(pluginName, m.Next, ctx, w, r)
}
