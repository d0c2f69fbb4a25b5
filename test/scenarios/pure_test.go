package scenarios

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/plan"
)

// The tables of the corpus are people's work; so each is checked against both the oracle and
// the plan.
func TestCorpus(t *testing.T) {
	for _, s := range corpus(t) {
		t.Run(s.name, func(t *testing.T) {
			entries := s.load(t)
			for _, c := range configurations {
				want := c.plan(plan.NewMarks(), entries...)
				trace := tracer{throughFake(t, want), c.masqueradeAll}
				for _, e := range s.flows[c.name] {
					for _, w := range ways {
						q, port, ok := w.ask(entries[0], sources[e.from], destinations[e.to])
						if !ok {
							t.Errorf("%s: %s, %s: the Service has no such address", c.name, e.to, w)
							continue
						}
						if got := describe(c.judge(entries[0], port, q), q); got != e.outcome {
							t.Errorf("%s: %s -> %s, %s: oracle says %q, table %q", c.name, e.from, e.to, w, got, e.outcome)
						}
						if got := describe(trace.trace(q), q); got != e.outcome {
							t.Errorf("%s: %s -> %s, %s: plan says %q, table %q", c.name, e.from, e.to, w, got, e.outcome)
						}
					}
				}
				if t.Failed() {
					t.Logf("%s:\n%s", c.name, want)
					return
				}
			}
		})
	}
}

// Nobody is to take a row out of kube-proxy's table unnoticed.
func TestCorpusHasTheWholeTable(t *testing.T) {
	rows := map[string]int{}
	for _, s := range corpus(t) {
		if s.name == "plain" || s.name == "external-local" || s.name == "internal-local" {
			for name, flows := range s.flows {
				seen := map[expectation]bool{}
				for _, e := range flows {
					seen[expectation{from: e.from, to: e.to}] = true
				}
				rows[name] += len(seen)
			}
		}
	}
	want := map[string]int{}
	for _, c := range configurations {
		want[c.name] = 27
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("flows of each configuration (-want +got):\n%s", diff)
	}
}

// throughFake has a data plane without a kernel do what a plan asks for, and gives what it
// then holds.
func throughFake(t *testing.T, want plan.Plan) plan.Plan {
	t.Helper()
	dataplane := &fake.Dataplane{}
	if _, err := dataplane.Apply(t.Context(), plan.Diff(plan.Plan{}, want)); err != nil {
		t.Fatal(err)
	}
	observed, err := dataplane.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), observed.String()); diff != "" {
		t.Fatalf("observed (-plan +observed):\n%s", diff)
	}
	return observed
}

func TestScenarioFilesThatAreWrong(t *testing.T) {
	const objects = "-- objects --\nkind: Service\n"
	tests := []struct{ name, content, want string }{
		{"no flows", objects, "has no objects or no flows"},
		{"no objects", "-- base --\npod -> NodePort: refused\n", "has no objects or no flows"},
		{"unknown configuration", objects + "-- bass --\npod -> NodePort: refused\n", `section "bass": is neither objects nor a configuration`},
		{
			"unknown source", objects + "-- base --\nnobody -> NodePort: refused\n",
			`base: "nobody -> NodePort: refused\n": must be like "pod -> NodePort: local, remote; source node"`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseScenario(test.content); err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
