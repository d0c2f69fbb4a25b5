package mooring

import (
	"fmt"
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
)

// explanation is an extended DNS error (RFC 8914).
type explanation struct {
	code uint16
	text string
}

// option makes an explanation an EDNS option.
func (e explanation) option() dns.EDNS0 {
	return &dns.EDNS0_EDE{InfoCode: e.code, ExtraText: e.text}
}

// explain says why an answer is negative.
func (m *Mooring) explain(n *name, a *answer) explanation {
	if a.outcome == unsure {
		return explanation{
			dns.ExtendedErrorCodeNotReady,
			fmt.Sprintf("not synced for %s", time.Since(m.since).Round(time.Second)),
		}
	}
	if a.outcome == noData {
		return explanation{dns.ExtendedErrorCodeOther, "the name exists, but has no record of this type"}
	}
	return m.explainMissing(n, &a.place)
}

// explainMissing says why a name does not exist.
func (c *config) explainMissing(n *name, p *place) explanation {
	var text string
	code := uint16(dns.ExtendedErrorCodeOther)
	switch p.why {
	case notExposed:
		code, text = dns.ExtendedErrorCodeBlocked, fmt.Sprintf("namespace %s is not exposed", n.labels[1])
	case noSuchNamespace:
		text = "there is no namespace " + n.labels[1]
	case noSuchService:
		text = "there is no Service " + n.labels[2] + " in namespace " + n.labels[1]
	case notHeadless:
		text = fmt.Sprintf("Service %s is not headless, so it has no names by zone", n.labels[2])
	case podsAreOff:
		text = "names of Pods are turned off"
	case noSuchPod:
		text = fmt.Sprintf("no Pod in namespace %s has this address", n.labels[1])
	case noSuchAddress:
		text = "no Service and no ready endpoint has this address"
	default:
		text = explainService(n, p)
	}
	return explanation{code, text}
}

// explainService says why there is nothing at or below a Service that exists.
func explainService(n *name, p *place) string {
	if p.service == nil {
		return "no name of a Service, Pod or address"
	}
	if ready, all := countEndpoints(p.service); ready == 0 && p.service.Service.Type != model.ExternalName {
		return fmt.Sprintf("Service %s exists, 0 of %d endpoints ready", n.labels[2], all)
	}
	switch p.kind {
	case endpointName:
		return fmt.Sprintf("Service %s exists, but has no ready endpoint %s", n.labels[2], p.endpoint)
	case portName, protocolName:
		return fmt.Sprintf("Service %s exists, but has no port of this name and protocol", n.labels[2])
	}
	return fmt.Sprintf("Service %s exists, but not this name below it", n.labels[2])
}

// edns is an OPT record with one extended error, made in one piece.
type edns struct {
	dns.OPT
	ede     dns.EDNS0_EDE
	options [1]dns.EDNS0
}

// explained makes an explanation an OPT record. The server sets its sizes and flags
// from the query.
func explained(e explanation) dns.RR {
	opt := new(edns)
	opt.Hdr.Name, opt.Hdr.Rrtype = ".", dns.TypeOPT
	opt.ede = dns.EDNS0_EDE{InfoCode: e.code, ExtraText: e.text}
	opt.options[0] = &opt.ede
	opt.Option = opt.options[:]
	return &opt.OPT
}
