package mooring

import (
	"context"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// stockName is the name under which k8s_external looks for a plugin like ours.
const stockName = "kubernetes"

// standIn is registered under the stock plugin's name for the plugins that look for it:
// k8s_external, and autopath @kubernetes. It shows them nothing else of ours, so that
// nothing is found twice, and it never sees a query.
type standIn struct {
	lookedFor
	next plugin.Handler
}

// lookedFor is what those plugins call: external.Externaler and autopath.AutoPather.
type lookedFor interface {
	External(req request.Request, headless bool) ([]msg.Service, int)
	ExternalAddress(req request.Request, headless bool) []dns.RR
	ExternalServices(zone string, headless bool) ([]msg.Service, map[string][]msg.Service)
	ExternalSerial(zone string) uint32
	AutoPath(req request.Request) []string
}

// Name implements plugin.Handler.
func (*standIn) Name() string { return stockName }

// ServeDNS implements plugin.Handler.
func (s *standIn) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure(stockName, s.next, ctx, w, r)
}

// addToChain puts the plugin into the chain, and behind it the stand-in, unless the stock
// plugin itself is there. A chain is built from its end, once for each address that is
// listened on; the stand-in is left out of it again as soon as it has been registered.
func addToChain(config *dnsserver.Config, m *Mooring) {
	packOutside(config)
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		if s, is := next.(*standIn); is {
			next = s.next
		}
		m.Next = next
		return m
	})
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		if stock := config.Handler(stockName); stock != nil {
			if _, ours := stock.(*standIn); !ours {
				return next
			}
		}
		return &standIn{m, next}
	})
}
