package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/mooring-project/mooring/test/bench/objects"
)

// querySet is what dnsperf asks, one "name type" a line.
type querySet struct {
	name, about string
	lines       []string
	// edns sends EDNS with a buffer of 4096 octets.
	edns bool
	// nxdomain is the share of questions whose name does not exist.
	nxdomain float64
}

const zone = ".svc.cluster.local"

func querySets(c cluster) []querySet {
	order := rand.New(rand.NewPCG(1, 2)).Perm(c.services)
	hit := querySet{name: "hit A", about: "A of existing ClusterIP Services"}
	for _, i := range order {
		hit.lines = append(hit.lines, fullName(i)+" A")
	}
	crowd := querySet{
		name: "headless-100", about: "A of a headless Service with 100 endpoints, UDP with EDNS 4096, so in one reply",
		lines: []string{"crowd.ns-0" + zone + " A"}, edns: true,
	}
	return []querySet{hit, mix(order), crowd}
}

func fullName(i int) string { return objects.NameOf(i) + "." + objects.NamespaceOf(i) + zone }

// mix is what a Pod with the usual search path (ndots 5) and a resolver that asks for both
// families does for: a Service in its namespace, one in another, and an outside name, of
// which the last question would go upstream and is left out; then SRV and PTR.
func mix(order []int) querySet {
	set := querySet{name: "mix", about: "A and AAAA pairs, search path misses, SRV, PTR, as Pods ask"}
	missing := 0
	for _, i := range order {
		own := objects.NamespaceOf(i + 1)
		pairs := []string{
			fullName(i), objects.NameOf(i) + "." + objects.NamespaceOf(i) + "." + own + zone, // the second one misses
			"www.example.com." + own + zone, "www.example.com" + zone, // these two miss
			fullName(i),
		}
		for _, name := range pairs {
			set.lines = append(set.lines, name+" A", name+" AAAA")
		}
		missing += 6
		set.lines = append(set.lines, "_http._tcp."+fullName(i)+" SRV", reversed(objects.ClusterIP(i))+" PTR")
	}
	set.nxdomain = float64(missing) / float64(len(set.lines))
	return set
}

func reversed(address string) string {
	octets := strings.Split(address, ".")
	return fmt.Sprintf("%s.%s.%s.%s.in-addr.arpa", octets[3], octets[2], octets[1], octets[0])
}
