package drain

import "github.com/mooring-project/mooring/proxy/plan"

// Connections of clients that are kept at an endpoint are those of a virtual server by firewall
// mark that has this endpoint alone. When the address that led there is not served any more,
// they still need its diversion, as those of a second view do.

// keep notes the virtual server of an endpoint that is leaving, when no more clients are
// kept there.
func (l *Ledger) keep(pinned plan.Key, inWant bool) {
	group, server := groupOf(pinned, pinned.Mark), plan.MarkKey(plan.VirtualServer, pinned.Pin, pinned.IPv6())
	if inWant || l.perServer[server] == 0 {
		l.unkeep(group, server)
		return
	}
	l.keepServer(group, server)
}

func (l *Ledger) keepServer(group, server plan.Key) {
	if _, known := l.kept[group][server]; known {
		return
	}
	if l.kept[group] == nil {
		l.kept[group] = make(map[plan.Key]struct{})
	}
	l.kept[group][server] = struct{}{}
	l.revision.Paths++
}

func groupOf(key plan.Key, mark uint32) plan.Key {
	return plan.MarkKey(plan.AffinityTimeout, mark, key.IPv6())
}

// lead notes the group of an address that is not served any more.
func (l *Ledger) lead(affinity plan.Key, applied plan.Value, inWant bool) {
	group := groupOf(affinity, applied.Mark)
	switch {
	case inWant:
		l.unlead(affinity)
	case applied.Mark != 0 && len(l.kept[group]) > 0 && l.led[affinity] != group:
		l.led[affinity] = group
		l.revision.Paths++
	}
}

func (l *Ledger) unlead(affinity plan.Key) {
	if _, known := l.led[affinity]; known {
		delete(l.led, affinity)
		l.revision.Paths++
	}
}

// keeps tells whether endpoints are leaving at which clients of an address were kept.
func (l *Ledger) keeps(divert plan.Key) bool {
	for _, kind := range []plan.Kind{plan.Affinity, plan.AffinityInside} {
		divert.Kind = kind
		if group, has := l.led[divert]; has && len(l.kept[group]) > 0 {
			return true
		}
	}
	return false
}

// letGo forgets the virtual server of an endpoint when it has left, and gives the diversions to
// decide upon again.
func (l *Ledger) letGo(server plan.Key) []plan.Key {
	if l.perServer[server] > 0 {
		return nil
	}
	var keys []plan.Key
	for group, servers := range l.kept {
		if _, has := servers[server]; !has {
			continue
		}
		l.unkeep(group, server)
		for affinity, of := range l.led {
			if of != group {
				continue
			}
			if len(l.kept[group]) == 0 {
				l.unlead(affinity)
			}
			affinity.Kind = plan.Divert
			keys = append(keys, affinity)
		}
	}
	return keys
}

func (l *Ledger) unkeep(group, server plan.Key) {
	if _, known := l.kept[group][server]; !known {
		return
	}
	l.revision.Paths++
	delete(l.kept[group], server)
	if len(l.kept[group]) == 0 {
		delete(l.kept, group)
	}
}
