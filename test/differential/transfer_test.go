package differential

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// recordSets are the records of a zone by owner and type, such as "web.default... A".
type recordSets map[string][]string

func (r recordSets) add(rr dns.RR) {
	key := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
	r[key] = append(r[key], strings.ReplaceAll(rr.String(), "\t", " "))
}

// sorted brings each set into one order.
func (r recordSets) sorted() recordSets {
	for _, set := range r {
		slices.Sort(set)
	}
	return r
}

// TestTransferIsWhatQueriesGet transfers every zone of random clusters. Asked one by one,
// the names of the transfer, and all names that the objects could have, must have the same
// records: none more, none less, and none otherwise (D15 of the stock plugin).
func TestTransferIsWhatQueriesGet(t *testing.T) {
	seed := chosenSeed(t)
	w := testWorld(t, chosenStanzas())
	clusters, records := 3, 0
	if testing.Short() {
		clusters = 1
	}
	for i := range clusters {
		g := newGenerator(seed + uint64(i))
		if err := w.show(g.cluster(4 + g.IntN(20))); err != nil {
			t.Fatal(err)
		}
		for _, p := range w.pairs {
			if p.compat {
				continue // has records at any number of names
			}
			for _, zone := range p.stanza.zones {
				records += compareTransfer(t, w, p, dns.Fqdn(zone), seed+uint64(i))
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d records in transfers compared", records)
}

func compareTransfer(t *testing.T, w *world, p *pair, zone string, seed uint64) (records int) {
	t.Helper()
	got := transferred(t, p, zone)
	names := []string{zone}
	for key, set := range got {
		name, _, _ := strings.Cut(key, " ")
		names = append(names, name)
		records += len(set)
	}
	for _, name := range derive(w.now) {
		if p.ends(name) && p.zoneOf(name) == zone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := make(recordSets)
	for _, name := range slices.Compact(names) {
		for _, rr := range p.owned(t, name) {
			want.add(rr)
		}
	}
	if diff := cmp.Diff(want.sorted(), got); diff != "" {
		t.Errorf("seed %d: %s: %s: queries against transfer (-want +got):\n%s%s", seed, p, zone, diff, w.now)
	}
	return records
}

// transferred gives the records of a zone. The SOA record, which must be the first and the
// last, counts once.
func transferred(t *testing.T, p *pair, zone string) recordSets {
	t.Helper()
	stream, err := p.ours.mooring.Transfer(zone, 0)
	if err != nil {
		t.Fatalf("%s: %s: %v", p, zone, err)
	}
	var all []dns.RR
	for set := range stream {
		all = append(all, set...)
	}
	last := len(all) - 1
	if all[0].Header().Rrtype != dns.TypeSOA || last == 0 || all[0].String() != all[last].String() {
		t.Errorf("%s: %s: the transfer begins with %s and ends with %s", p, zone, all[0], all[last])
	}
	sets := make(recordSets)
	for _, rr := range all[:last] {
		sets.add(rr)
	}
	return sets.sorted()
}

// ends tells whether a name is of a kind of which there is an end: zonal names, and those
// of Pods that need not exist, are not.
func (p *pair) ends(name string) bool {
	return !strings.Contains(name, "._zone.") && !(p.ours.has("pods insecure") && strings.Contains(name, ".pod."))
}

// zoneOf gives the zone that holds a name, empty if none does.
func (p *pair) zoneOf(name string) (best string) {
	for _, zone := range p.stanza.zones {
		if zone = dns.Fqdn(zone); dns.IsSubDomain(zone, name) && len(zone) > len(best) {
			best = zone
		}
	}
	return best
}

// owned asks for every type that a zone of ours can have at a name.
func (p *pair) owned(t *testing.T, name string) (records []dns.RR) {
	t.Helper()
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR} {
		reply, err := p.ours.ask(query{name: name, qtype: qtype, tcp: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range reply.Answer {
			if reply.Authoritative && rr.Header().Name == name && rr.Header().Rrtype == qtype {
				records = append(records, rr)
			}
		}
	}
	return records
}
