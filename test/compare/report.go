package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/scenarios/findings"
)

// head is what a report says of its making.
type head struct {
	kernel string
	at     time.Time
	args   []string
}

// flowTable are the scenarios that are kube-proxy's own table of flows.
var flowTable = []string{"plain", "external-local", "internal-local"}

// flow is a line of a table in one configuration; it holds if it does in every way.
type flow struct{ configuration, scenario, from, to string }

// write gives the whole document.
func write(found []findings.Finding, subjects []string, h head) string {
	r := &report{subjects: subjects, failed: map[string]map[flow][]findings.Finding{}}
	r.read(found)
	r.printf("# mooring-proxy beside kube-proxy\n\n")
	r.printf("Written by `%s` on %s, kernel %s; kube-proxy is that of Kubernetes %s.\n\n",
		strings.Join(append([]string{"go run ./test/compare"}, h.args...), " "), h.at.Format("2006-01-02 15:04 UTC"), h.kernel, kubernetesVersion())
	r.printf(preface)
	r.table()
	r.behaviourTable()
	r.differences()
	return r.String()
}

const preface = `Every subject is a process that follows a real API server on a node of its own. The objects and what
is to become of each flow are in [test/scenarios/testdata](../test/scenarios/testdata); which endpoints answer and which source they see
is judged from the Kubernetes API alone, by packets. A flow holds if it does over TCP and UDP, IPv4 and IPv6. The first
rows are the flows of kube-proxy's own test TestInternalExternalMasquerade, 27 in each of four configurations. A number in brackets
counts also the flows of which all that is wrong is that endpoints see an address of the Service, which the proxy has bound to the node,
where they should see the node's own; or that a refusal takes a second, since it is the second SYN that is heeded: an ICMPv6 error that
comes while connect is at work is not, which is so on links as short as these.

`

type report struct {
	strings.Builder
	subjects []string
	// scenarios are those that occur, in order; flows are those of each.
	scenarios []string
	flows     map[string][]flow
	// behaviours are the findings about these.
	behaviours []findings.Finding
	// failed has what does not hold, by subject.
	failed map[string]map[flow][]findings.Finding
}

// holds counts the flows that hold for a subject, and those that do but for something.
func (r *report) holds(subject string, flows []flow) (strictly, nearly int) {
	for _, f := range flows {
		failed := r.failed[subject][f]
		if len(failed) == 0 {
			strictly++
		}
		if !slices.ContainsFunc(failed, func(f findings.Finding) bool { return !f.NearlyHolds() }) {
			nearly++
		}
	}
	return strictly, nearly
}

func (r *report) read(found []findings.Finding) {
	r.flows = map[string][]flow{}
	for _, f := range found {
		if f.Behaviour != "" {
			r.behaviours = append(r.behaviours, f)
			continue
		}
		if !slices.Contains(r.scenarios, f.Scenario) {
			r.scenarios = append(r.scenarios, f.Scenario)
		}
		line := flow{f.Configuration, f.Scenario, f.From, f.To}
		if !slices.Contains(r.flows[f.Scenario], line) {
			r.flows[f.Scenario] = append(r.flows[f.Scenario], line)
		}
		if f.Holds() {
			continue
		}
		if r.failed[f.Subject] == nil {
			r.failed[f.Subject] = map[flow][]findings.Finding{}
		}
		r.failed[f.Subject][line] = append(r.failed[f.Subject][line], f)
	}
}

// table counts what holds: a row for kube-proxy's table, one for each other scenario.
func (r *report) table() {
	r.printf("| checks that hold | of | %s |\n|---|---:|%s\n", strings.Join(r.subjects, " | "), strings.Repeat("---:|", len(r.subjects)))
	r.row("**kube-proxy's table of flows**", flowTable...)
	for _, s := range flowTable {
		r.row("- "+s, s)
	}
	for _, s := range r.scenarios {
		if !slices.Contains(flowTable, s) {
			r.row(s, s)
		}
	}
	r.row("**all**", r.scenarios...)
	r.printf("\n")
}

func (r *report) row(name string, scenarios ...string) {
	var flows []flow
	for _, s := range scenarios {
		flows = append(flows, r.flows[s]...)
	}
	if len(flows) == 0 {
		return
	}
	r.printf("| %s | %d |", name, len(flows))
	for _, subject := range r.subjects {
		strictly, nearly := r.holds(subject, flows)
		if nearly > strictly {
			r.printf(" %d (%d) |", strictly, nearly)
			continue
		}
		r.printf(" %d |", strictly)
	}
	r.printf("\n")
}

// behaviourTable has what came of each behaviour, in the order in which they were tried.
func (r *report) behaviourTable() {
	if len(r.behaviours) == 0 {
		return
	}
	r.printf("| behaviour | %s |\n|---|%s\n", strings.Join(r.subjects, " | "), strings.Repeat("---|", len(r.subjects)))
	var done []string
	for _, b := range r.behaviours {
		if slices.Contains(done, b.Behaviour) {
			continue
		}
		done = append(done, b.Behaviour)
		r.printf("| %s |", b.Behaviour)
		for _, subject := range r.subjects {
			r.printf(" %s |", r.cameOf(b.Behaviour, subject))
		}
		r.printf("\n")
	}
	r.printf("\n")
}

func (r *report) cameOf(behaviour, subject string) string {
	for _, f := range r.behaviours {
		switch {
		case f.Behaviour != behaviour || f.Subject != subject:
		case f.Holds():
			return "yes"
		default:
			return "no: " + f.Got
		}
	}
	return "not tried"
}

// differences lists what does not hold, with one way as an example.
func (r *report) differences() {
	for _, subject := range r.subjects {
		r.printf("## Where %s differs\n\n", subject)
		if len(r.failed[subject]) == 0 {
			r.printf("Nowhere.\n\n")
			continue
		}
		r.printf("| scenario | configuration | flow | ways | for example: got | want |\n|---|---|---|---:|---|---|\n")
		for _, s := range r.scenarios {
			for _, f := range r.flows[s] {
				if wrong := r.failed[subject][f]; len(wrong) > 0 {
					r.printf("| %s | %s | %s -> %s | %d | %s: %s | %s |\n", f.scenario, f.configuration, f.from, f.to, len(wrong), wrong[0].Way, wrong[0].Got, wrong[0].Want)
				}
			}
		}
		r.printf("\n")
	}
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(r, format, args...) }
