package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// signature is what differences of one cause have in common.
func (d *difference) signature() string {
	qtype := dns.TypeToString[d.query.qtype]
	switch d.query.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeTXT, dns.TypeNS, dns.TypeSOA:
	default:
		qtype = "other types"
	}
	compat := ""
	if d.pair.compat {
		compat = ", compat stock"
	}
	return fmt.Sprintf("%s%s: %s: stock %s, ours %s", qtype, compat, strings.Join(d.parts, "+"), d.stock.kind(), d.ours.kind())
}

// kind names the class of an answer.
func (a answer) kind() string {
	kinds := []string{a.rcode}
	for _, record := range a.answer {
		if kind := strings.Fields(record)[3]; !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 1 && a.rcode == "NOERROR" {
		return "NODATA"
	}
	return strings.Join(kinds, " ")
}

// report shows a difference and what is needed to see it again.
func (d *difference) report() string {
	return fmt.Sprintf("unexplained difference (%s)\nquery: %s\nstock: %sours:  %sobjects:\n%sCorefile:\n%s",
		d.signature(), d.query, d.stock, d.ours, d.objects, d.pair.ours.corefile)
}
