package differential

import (
	"context"
	"net"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// upstreamName is the directive of the plugin that stands for the world outside of the
// cluster. It comes last in the chain.
const upstreamName = "differential_upstream"

func init() {
	plugin.Register(upstreamName, func(c *caddy.Controller) error {
		for c.Next() {
			if c.NextArg() {
				return plugin.Error(upstreamName, c.ArgErr())
			}
		}
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return upstream{} })
		return nil
	})
}

// upstream answers for example.org; everything else does not exist.
type upstream struct{}

// Name implements plugin.Handler.
func (upstream) Name() string { return upstreamName }

// ServeDNS implements plugin.Handler.
func (u upstream) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable = true
	q := r.Question[0]
	switch host, _, _ := strings.Cut(strings.ToLower(q.Name), ".example.org."); host {
	case "both":
		m.Answer = addressesOf(q, "192.0.2.10", "2001:db8::10")
	case "four":
		m.Answer = addressesOf(q, "192.0.2.11", "")
	case "chain":
		m.Answer = []dns.RR{&dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: "both.example.org."}}
		q.Name = "both.example.org."
		m.Answer = append(m.Answer, addressesOf(q, "192.0.2.10", "2001:db8::10")...)
	case "broken":
		m.Rcode = dns.RcodeServerFailure
		return 0, w.WriteMsg(m)
	default:
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{&dns.SOA{Hdr: header("org.", dns.TypeSOA), Ns: "upstream.test.", Mbox: "upstream.test.", Serial: 1}}
	}
	return 0, w.WriteMsg(m)
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: 77}
}

func addressesOf(q dns.Question, v4, v6 string) []dns.RR {
	switch {
	case q.Qtype == dns.TypeA && v4 != "":
		return []dns.RR{&dns.A{Hdr: header(q.Name, dns.TypeA), A: net.ParseIP(v4)}}
	case q.Qtype == dns.TypeAAAA && v6 != "":
		return []dns.RR{&dns.AAAA{Hdr: header(q.Name, dns.TypeAAAA), AAAA: net.ParseIP(v6)}}
	}
	return nil
}
