package differential

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// exception is a kind of difference that is intended.
type exception struct {
	// code is the code of the defect of the stock plugin.
	code string
	// decides is the sentence that says who is right.
	decides string
	// compat is true if compat stock does not take it away.
	compat bool
	holds  func(*difference) bool
}

// exceptions are all differences that are allowed. The first that holds counts.
var exceptions = []exception{
	{
		code:    "D1",
		decides: "RFC 8020 section 2: a name that has names below it exists, though it has no records (NODATA)",
		holds: func(d *difference) bool {
			return d.rcodes("NXDOMAIN", "NOERROR") && len(d.ours.answer) == 0 && d.hasBelow()
		},
	},
}

// allowed gives the exception that covers a difference, nil if none does.
func allowed(d *difference) *exception {
	for i := range exceptions {
		if e := &exceptions[i]; (e.compat || !d.pair.compat) && e.holds(d) {
			return e
		}
	}
	return nil
}

// rcodes tells whether the answers have these response codes.
func (d *difference) rcodes(stock, ours string) bool {
	return d.stock.rcode == stock && d.ours.rcode == ours
}

// hasBelow tells whether a name that exists is below the one asked for.
func (d *difference) hasBelow() bool {
	suffix := "." + strings.ToLower(d.query.name)
	for name := range d.exists {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// existing asks the stock plugin which names have records.
func (p *pair) existing(candidates []string) (names, error) {
	found := make(names)
	for _, name := range candidates {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT} {
			m, err := p.stock.ask(query{name: name, qtype: qtype, tcp: true})
			if err != nil {
				return nil, fmt.Errorf("%s: stock plugin: %w", p, err)
			}
			if m.Authoritative && m.Rcode == dns.RcodeSuccess {
				found[name] = struct{}{}
				break
			}
		}
	}
	return found, nil
}

// signature is what differences of one cause have in common.
func (d *difference) signature() string {
	return fmt.Sprintf("%s: %s, compat %t: stock %s, ours %s", dns.TypeToString[d.query.qtype], strings.Join(d.parts, "+"), d.pair.compat, d.stock.kind(), d.ours.kind())
}

// kind names the class of an answer.
func (a answer) kind() string {
	var kinds []string
	for _, record := range a.answer {
		kind := strings.Fields(record)[3]
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 && a.rcode == "NOERROR" {
		return "NODATA"
	}
	return strings.Join(append([]string{a.rcode}, kinds...), " ")
}
