package differential

import (
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
var exceptions []exception

func init() { exceptions = knownExceptions() }

// knownExceptions makes the table, whose functions look into the table again.
func knownExceptions() []exception {
	return []exception{
		{
			code:    "D1 empty non-terminal",
			decides: "RFC 8020 section 2: a name that has names below it exists, though it has no records",
			holds:   func(d *difference) bool { return d.negative("NXDOMAIN", "NOERROR") && d.hasBelow() },
		},
		{
			code:    "D2 SOA of a name that does not exist",
			decides: "RFC 2308 section 2: whether a name exists does not depend on the type asked for",
			holds: func(d *difference) bool {
				return d.query.qtype == dns.TypeSOA && d.stock.empty("NOERROR") && d.agrees(dns.TypeHINFO, d.query.name)
			},
		},
		{
			code:    "D3 name of another type",
			decides: "RFC 2308 section 2.2: a name that has records, but not of the type asked for, is NODATA",
			holds:   func(d *difference) bool { return d.negative("NXDOMAIN", "NOERROR") && d.hasOtherType() },
		},
		{
			code:    "D4 letter case",
			decides: "RFC 4343 section 3: names compare without regard to case",
			holds: func(d *difference) bool {
				lower := strings.ToLower(d.query.name)
				return lower != d.query.name && d.explainedAs(lower)
			},
		},
		{
			code:    "D4 letter case in the target of an alias",
			decides: "RFC 4343 section 3: names compare without regard to case, whatever the case of the name that led to them",
			holds: func(d *difference) bool {
				lower := strings.ToLower(d.query.name)
				return lower != d.query.name && d.ours.startsWithAlias() && d.explainedAs(lower)
			},
		},
		{
			code:    "D28 record twice",
			decides: "RFC 2181 section 5: a record set has no two records with the same data",
			holds: func(d *difference) bool {
				once := d.stock
				once.answer, once.extra = slices.Compact(slices.Clone(once.answer)), slices.Compact(slices.Clone(once.extra))
				return len(differ(once, d.ours, once)) == 0
			},
		},
		{
			code:    "D5 address at the name of an SRV record",
			decides: "DNS specification 2.3.1: A and AAAA records are those of the Service's name; _port._proto has SRV records",
			holds: func(d *difference) bool {
				return d.stock.only("A", "AAAA") && d.ours.empty("NOERROR") && d.isPortName()
			},
		},
		{
			code:    "D6 port and protocol without underscores",
			decides: "RFC 2782, The format of the SRV RR: an underscore is prepended to the service and protocol identifiers",
			holds: func(d *difference) bool {
				return d.stock.rcode == "NOERROR" && d.ours.rcode != "NOERROR" && d.isPortNameWithout()
			},
		},
		{
			code:    "D7 labels before the name of a pod",
			decides: "RFC 8020 section 2, DNS specification 2.3: no name below that of a pod is specified",
			holds: func(d *difference) bool {
				labels := d.labels()
				return d.stock.rcode == "NOERROR" && d.ours.rcode != "NOERROR" && len(labels) > 3 && labels[len(labels)-1] == "pod"
			},
		},
		{
			code:    "D8 alias for every type",
			decides: "RFC 1034 section 3.6.2: a name with a CNAME record answers queries of any type with it",
			holds: func(d *difference) bool {
				return d.ours.startsWithAlias() && d.stock.empty(d.stock.rcode) && !d.isAddress()
			},
		},
		{
			code:    "D9 alias whose target has no address",
			decides: "RFC 2308 section 2.1 and 2.2: the CNAME is in the answer, the response code is that of its target",
			holds: func(d *difference) bool {
				return d.isAddress() && d.ours.startsWithAlias() && d.ours.only("CNAME") && partOf(d.stock.answer, d.ours.answer)
			},
		},
		{
			code:    "D10 slice of address type FQDN",
			decides: "DNS specification 2.4.1: a headless Service has A and AAAA records; RFC 2181 section 10.1: one CNAME at a name",
			compat:  true,
			holds: func(d *difference) bool {
				// Such names prefer endpoints of a zone, and take all if it has none but those of such slices.
				return d.anySlice(isFQDN) && (d.isWithin() || prefersZone(d.labels()))
			},
		},
		{
			code:    "D11 names of services in a reverse zone",
			decides: "RFC 8020 section 2: svc and pod in a reverse zone have no names below them",
			holds: func(d *difference) bool {
				l := d.labels()
				return d.negative("NOERROR", "NXDOMAIN") && len(l) == 1 && (l[0] == "svc" || l[0] == "pod") && d.isReverse()
			},
		},
		{
			code:    "D12 pointer to a name that does not exist",
			decides: "DNS specification 2.3.3 and 2.4.3: a PTR record points to the name that has the address; it must exist for clients",
			holds: func(d *difference) bool {
				return d.query.qtype == dns.TypePTR && d.isReverse() && d.ours.subsetOf(d.stock) && d.lostTargetsMissing()
			},
		},
		{
			code:    "D12 pointer of a slice whose Service does not exist",
			decides: "DNS specification 2.3.3 and 2.4.3: PTR records are those of a Service",
			holds: func(d *difference) bool {
				return d.query.qtype == dns.TypePTR && d.isReverse() && d.ours.subsetOf(d.stock) && d.anySlice(d.isOrphan)
			},
		},
		{
			code:    "D20 second address of an endpoint",
			decides: "discovery/v1 Endpoint.addresses: no semantics are defined for additional addresses beyond the first",
			holds:   func(d *difference) bool { return d.isWithin() && d.anySlice(hasSecondAddress) },
		},
		{
			code:    "D21 slice of no Service",
			decides: "RFC 1035 section 2.3.1: a label has at least one octet; the stock plugin makes one of none and sends nothing",
			compat:  true,
			holds:   func(d *difference) bool { return d.stock.rcode == noReplyCode && d.query.qtype == dns.TypePTR },
		},
		{
			code:    "D22 weight of what is in no SRV record",
			decides: "RFC 2782: weights are relative, DNS specification 2.3.2 leaves them open; an address counts once (EndpointSlice API: duplicates), a slice without ports not at all",
			holds: func(d *difference) bool {
				return d.query.qtype == dns.TypeSRV && slices.Equal(d.parts, []string{"answer"}) &&
					d.sameButWeights() && (d.anyDuplicate() || d.anySlice(isPortless))
			},
		},
		{
			code:    "D24 name server that clients cannot find",
			decides: "RFC 1035 section 3.3.13: the MNAME of the SOA record is the name of a name server; if the Service that selects it does not exist for clients, its own address is left",
			holds: func(d *difference) bool {
				l, service := d.labels(), d.service()
				asked := slices.Equal(l, []string{"ns", "dns"}) || len(l) == 0 && d.query.qtype == dns.TypeNS ||
					service != nil && strings.HasPrefix(service.Spec.ExternalName, "ns.dns.")
				return asked && d.isOwnOrphan() && d.ours.rcode == "NOERROR"
			},
		},
		{
			code:    "D11 name server in a reverse zone",
			decides: "RFC 1912 section 2.8 and RFC 1035 section 3.3.11: the target of an NS record must exist; Services have no names in reverse zones",
			holds: func(d *difference) bool {
				return d.isReverse() && len(d.labels()) == 0 && d.query.qtype == dns.TypeNS && d.stock.only("NS") && d.ours.only("NS")
			},
		},
		{
			code:    "D26 reverse name of more or fewer nibbles",
			decides: "RFC 3596 section 2.5: the name of an IPv6 address has 32 nibbles; RFC 8020 section 2: nothing is below it",
			holds: func(d *difference) bool {
				return d.isReverse() && d.query.qtype == dns.TypePTR && d.stock.only("PTR") && d.ours.empty("NXDOMAIN") && dns.CountLabel(d.query.name) != 34
			},
		},
		{
			code:    "D27 port without number",
			decides: "discovery/v1 EndpointPort.port: a port without number means all ports, which a Service cannot have; it has no SRV record and no name",
			holds:   func(d *difference) bool { return d.isWithin() && d.anySlice(hasNoPortNumber) },
		},
		{
			code:    "D29 reverse name of an address in another spelling",
			decides: "RFC 4291 section 2.2: an IPv6 address may be spelled in several ways; RFC 3596 section 2.5: it has one reverse name",
			compat:  true,
			holds: func(d *difference) bool {
				return d.isReverse() && d.stock.subsetOf(d.ours) && d.anySlice(isSpelledOtherwise)
			},
		},
		{
			code:    "D25 zone of an address that a slice has twice",
			decides: "discovery/v1 Endpoint.zone: each endpoint has a zone; the stock plugin keeps the last one of an address",
			holds: func(d *difference) bool {
				return slices.Contains(d.labels(), "_zone") && d.stock.rcode == d.ours.rcode && d.anyDuplicate()
			},
		},
		{
			code:    "D23 SRV record at the name of a pod",
			decides: "DNS specification 2: SRV records are those of named ports of Services",
			holds: func(d *difference) bool {
				l := d.labels()
				return d.query.qtype == dns.TypeSRV && d.stock.only("SRV") && len(d.ours.answer) == 0 && len(l) >= 3 && l[len(l)-1] == "pod"
			},
		},
	}
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
