package mooring

import "strings"

// maxLabels is how many labels left of the zone are looked at one by one. What stands
// further left is kept in one piece, because only a topology zone can be that long.
const maxLabels = 5

// name is a query name below one of our zones, taken apart. All strings are pieces of
// one lower-cased name, so that taking it apart allocates nothing.
type name struct {
	// full is the whole name in lower case.
	full string
	// zone is the zone that matched.
	zone *zone
	// zoneText is the zone part as the client spelled it.
	zoneText string
	// labels are the labels left of the zone, from right to left: labels[0] is "svc".
	labels [maxLabels]string
	// count is the number of labels in use.
	count int
	// rest is what stands left of them, without the separating dot.
	rest string
}

// parseName takes a query name apart, or says that no zone of ours holds it. It takes
// presentation format, in which a dot inside a label is escaped (RFC 1035 section 5.1).
func parseName(zones []zone, asked string) (n name, ours bool) {
	n.full = strings.ToLower(asked)
	n.zone = matchZone(zones, n.full)
	if n.zone == nil {
		return n, false
	}
	n.zoneText = asked[len(asked)-len(n.zone.name):]
	left := n.full[:len(n.full)-len(n.zone.name)]
	if n.zone.name == "." && n.full != "." {
		left = n.full // its only dot also ends the label before it
	}
	n.split(left)
	return n, true
}

// split walks over the part left of the zone, which is empty or ends in a dot, once from
// right to left.
func (n *name) split(left string) {
	end := len(left) - 1 // the dot that ends the rightmost label
	for end > 0 && n.count < maxLabels {
		start := labelStart(left, end)
		n.labels[n.count] = left[start:end]
		n.count++
		end = start - 1
	}
	if end > 0 {
		n.rest = left[:end]
	}
}

// labelStart gives the start of the label that ends before end.
func labelStart(text string, end int) int {
	for i := end - 1; i >= 0; i-- {
		if text[i] == '.' && !escaped(text, i) {
			return i + 1
		}
	}
	return 0
}

// escaped tells whether the character at i is escaped: an odd number of backslashes
// precedes it.
func escaped(text string, i int) bool {
	slashes := 0
	for i--; i >= 0 && text[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 1
}

// matchZone gives the most specific zone that holds a lower-cased name, nil if none.
func matchZone(zones []zone, full string) *zone {
	var best *zone
	for i := range zones {
		z := &zones[i]
		if inZone(full, z.name) && (best == nil || len(z.name) > len(best.name)) {
			best = z
		}
	}
	return best
}

// inZone tells whether a lower-cased name is in a lower-cased zone, as
// dns.IsSubDomain does, but without allocating.
func inZone(full, zone string) bool {
	if zone == "." {
		return true
	}
	if !strings.HasSuffix(full, zone) {
		return false
	}
	dot := len(full) - len(zone) - 1
	return dot < 0 || full[dot] == '.' && !escaped(full, dot)
}
