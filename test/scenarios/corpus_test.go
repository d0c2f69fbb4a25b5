package scenarios

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// configuration is one of the four in which kube-proxy's table is defined.
type configuration struct {
	name          string
	knowsPods     bool
	masqueradeAll bool
}

var configurations = []configuration{
	{"base", true, false},
	{"no local detector", false, false},
	{"masquerade all", true, true},
	{"no local detector, masquerade all", false, true},
}

// scenario is one file of testdata.
type scenario struct {
	name    string
	objects string
	// flows are the expectations, by the name of the configuration.
	flows map[string][]expectation
}

// expectation is a line as in "pod -> NodePort: local, remote; source node".
type expectation struct {
	from, to, outcome string
}

var sources = map[string]oracle.Source{"pod": oracle.Pod, "node": oracle.Host, "outside": oracle.Outside}

var destinations = map[string]oracle.Destination{
	"ClusterIP": oracle.ClusterIP, "NodePort": oracle.NodePort, "LoadBalancer": oracle.LoadBalancer, "ExternalIP": oracle.ExternalIP,
}

// corpus reads all scenarios.
func corpus(t *testing.T) []scenario {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scenarios in testdata: %d files, error %v", len(files), err)
	}
	var all []scenario
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScenario(string(content))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.name = strings.TrimSuffix(filepath.Base(file), ".txt")
		all = append(all, s)
	}
	return all
}

// parseScenario reads a file: what it is about, then sections that begin with "-- name --".
func parseScenario(content string) (scenario, error) {
	s := scenario{flows: map[string][]expectation{}}
	section := ""
	for line := range strings.Lines(content) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "-- "); found {
			section = strings.TrimSuffix(name, " --")
			continue
		}
		switch section {
		case "":
		case "objects":
			s.objects += line
		default:
			e, err := parseExpectation(line)
			if err != nil {
				return s, fmt.Errorf("%s: %w", section, err)
			}
			s.flows[section] = append(s.flows[section], e)
		}
	}
	for name := range s.flows {
		if _, known := configurationNamed(name); !known {
			return s, fmt.Errorf("section %q: is neither objects nor a configuration", name)
		}
	}
	if s.objects == "" || len(s.flows) == 0 {
		return s, fmt.Errorf("has no objects or no flows")
	}
	return s, nil
}

func parseExpectation(line string) (expectation, error) {
	flow, outcome, hasOutcome := strings.Cut(line, ":")
	from, to, isFlow := strings.Cut(flow, " -> ")
	e := expectation{from: from, to: to, outcome: strings.TrimSpace(outcome)}
	_, knownSource := sources[from]
	_, knownDestination := destinations[to]
	if !hasOutcome || !isFlow || !knownSource || !knownDestination {
		return e, fmt.Errorf("%q: must be like %q", line, "pod -> NodePort: local, remote; source node")
	}
	return e, nil
}

func configurationNamed(name string) (configuration, bool) {
	for _, c := range configurations {
		if c.name == name {
			return c, true
		}
	}
	return configuration{}, false
}

// load has the manifests read as a proxy reads them.
func (s scenario) load(t *testing.T) []*state.Service {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(s.objects), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := watch.NewManifests(file, watch.Selection{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store := state.NewStore()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, store) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	snapshot := store.Load()
	for !snapshot.Synced {
		<-snapshot.Superseded()
		snapshot = store.Load()
	}
	var entries []*state.Service
	for _, entry := range snapshot.Services() {
		entries = append(entries, entry)
	}
	if len(entries) == 0 {
		t.Fatalf("%s: no Service in its manifests: %+v", s.name, source.Status())
	}
	return entries
}

// way is a family and a protocol.
type way struct {
	ipv6     bool
	protocol model.Protocol
}

var ways = []way{{false, model.TCP}, {false, model.UDP}, {true, model.TCP}, {true, model.UDP}}

func (w way) network() string { return strings.ToLower(w.protocol.String()) }

func (w way) String() string {
	if w.ipv6 {
		return w.network() + " over IPv6"
	}
	return w.network() + " over IPv4"
}

// question is a flow of a Service port, with addresses.
type question struct {
	oracle.Flow
	way
	port uint16
	at   netip.Addr
}

// ask gives the question about the first port of the protocol; ok is false if the Service
// has no such address.
func (w way) ask(entry *state.Service, from oracle.Source, to oracle.Destination) (q question, port model.ServicePort, ok bool) {
	service := entry.Service
	for _, p := range service.Ports {
		if p.Protocol == w.protocol {
			port, ok = p, true
			break
		}
	}
	q = question{way: w, port: port.Port, Flow: oracle.Flow{From: from, To: to, Addr: w.addressOf(from)}}
	of := map[oracle.Destination][]netip.Addr{
		oracle.ClusterIP: service.ClusterIPs, oracle.LoadBalancer: service.LoadBalancerIPs, oracle.ExternalIP: service.ExternalIPs,
	}[to]
	if to == oracle.NodePort && port.NodePort != 0 {
		q.port, of = port.NodePort, []netip.Addr{theNode.addr(w.ipv6)}
	}
	for _, addr := range of {
		if addr.Is6() == w.ipv6 {
			q.at = addr
			return q, port, ok
		}
	}
	return q, port, false
}

// view is what the oracle is told of one port and family of a Service.
func view(entry *state.Service, port model.ServicePort, ipv6 bool) oracle.Service {
	s := oracle.Service{
		ExternalLocal: entry.Service.ExternalTrafficPolicy == model.Local,
		InternalLocal: entry.Service.InternalTrafficPolicy == model.Local,
	}
	for _, prefix := range entry.Service.LoadBalancerSourceRanges {
		if prefix.Addr().Is6() == ipv6 {
			s.Ranges = append(s.Ranges, prefix)
		}
	}
	for _, slice := range entry.Slices {
		for _, p := range slice.Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Addr.Is6() == ipv6 {
					s.Endpoints = append(s.Endpoints, oracle.Endpoint{
						Target: netip.AddrPortFrom(e.Addr, p.Port), Node: e.Node(),
						Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating, ForNodes: e.ForNodes(), ForZones: e.ForZones(),
					})
				}
			}
		}
	}
	return s
}

// judge asks the oracle.
func (c configuration) judge(entry *state.Service, port model.ServicePort, q question) oracle.Outcome {
	node := oracle.Node{Name: theNode.node, Zone: zone, KnowsPods: c.knowsPods, MasqueradeAll: c.masqueradeAll}
	return oracle.Decide(view(entry, port, q.ipv6), node, q.Flow)
}

// describe says an outcome in the words of the corpus.
func describe(o oracle.Outcome, q question) string {
	switch o.Fate {
	case oracle.Dropped:
		return "dropped"
	case oracle.Refused:
		return "refused"
	case oracle.Lost:
		return "goes past the proxy"
	}
	var names []string
	source := ""
	for _, a := range o.Answers {
		name := nameOf(a.Endpoint)
		seen := map[bool]string{true: "node", false: "kept"}[a.Masqueraded]
		if a.Endpoint.Addr() == q.Addr {
			name = "itself"
			if a.Masqueraded && len(o.Answers) > 1 {
				names = append(names, name)
				continue
			}
		}
		if source != "" && source != seen {
			seen = "kept or node"
		}
		source = seen
		names = append(names, name)
	}
	return strings.Join(names, ", ") + "; source " + source
}
