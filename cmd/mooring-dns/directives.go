package main

import "slices"

// directives gives the order in which plugins see a query: that of CoreDNS, with two
// changes. The plugin mooring stands directly before the stock kubernetes plugin, whose
// place it takes, so that every plugin that stock CoreDNS puts before kubernetes (log,
// rewrite, acl, dnssec, template, hosts, ...) still comes before it. And cache moves
// from before header to directly after mooring: it copies every reply that passes
// through it, also those it is told not to keep, which costs more than making the
// answer anew.
func directives(stock []string) []string {
	order := slices.DeleteFunc(slices.Clone(stock), func(d string) bool { return d == "cache" })
	place := slices.Index(order, "kubernetes")
	if place < 0 {
		place = len(order)
	}
	return slices.Insert(order, place, "mooring", "cache")
}
