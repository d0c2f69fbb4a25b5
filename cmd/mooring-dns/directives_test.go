package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDirectives(t *testing.T) {
	got := directives(stockDirectives)
	from, to := slices.Index(got, "errors"), slices.Index(got, "forward")
	want := []string{
		"errors", "log", "dnstap", "local", "dns64", "siit", "any", "chaos", "loadbalance", "tsig", "rewrite",
		"autopath", "acl", "header", "dnssec", "tls", "minimal", "template", "transfer", "dynupdate", "hosts",
		"route53", "azure", "clouddns", "k8s_external", "mooring", "cache", "kubernetes", "file", "auto",
		"secondary", "etcd", "loop", "forward",
	}
	if from < 0 || to < from {
		t.Fatalf("no errors and forward in %q", got)
	}
	if diff := cmp.Diff(want, got[from:to+1]); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestDirectivesMoveNothingButCache(t *testing.T) {
	without := func(list []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(d string) bool { return slices.Contains(names, d) })
	}
	got := without(directives(stockDirectives), "mooring", "cache")
	if diff := cmp.Diff(without(stockDirectives, "cache"), got); diff != "" {
		t.Errorf("order of the stock plugins (-want +got):\n%s", diff)
	}
}
