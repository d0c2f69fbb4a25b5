package scenarios

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/scenarios/findings"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// asksEach bounds how often a flow is asked until every endpoint has answered: two that are
// chosen at random have by then, but for one time in thirty thousand.
const asksEach = 16

// TestComparison runs the corpus against processes, each with a real API server, and records how they
// fare. It fails where it cannot tell, not where a subject differs. It is run by test/compare.
func TestComparison(t *testing.T) {
	subjects := os.Getenv("MOORING_SUBJECTS")
	if subjects == "" {
		t.Skip("MOORING_SUBJECTS: not set; run make compare")
	}
	client, err := peers.Client()
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	marks := 0
	for subject := range strings.SplitSeq(subjects, ",") {
		for _, c := range configurations {
			if !chosen("MOORING_CONFIGURATIONS", c.name) {
				continue
			}
			t.Run(subject+"/"+c.name, func(t *testing.T) {
				began := time.Now()
				k := start(t, client, peers.Subject(subject), c, &marks)
				for _, s := range corpus(t) {
					if len(s.flows[c.name]) > 0 && chosen("MOORING_SCENARIOS", s.name) {
						k.t = t
						k.become(t, s)
						k.record(t, r, subject, c, s)
						t.Logf("%s: %s", time.Since(began).Round(time.Second), s.name)
					}
				}
				if c.name == configurations[0].name {
					k.t = t
					k.behave(t, r, subject, c)
				}
				t.Logf("took %s", time.Since(began).Round(time.Second))
			})
		}
	}
	r.write(t, os.Getenv("MOORING_FINDINGS"))
	writeKernel(t, os.Getenv("MOORING_FINDINGS")+".kernel")
}

// chosen tells whether a variable is empty or has the name among others.
func chosen(variable, name string) bool {
	list := os.Getenv(variable)
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// recorder collects what is found.
type recorder struct{ all []findings.Finding }

func (r *recorder) write(t *testing.T, file string) {
	t.Helper()
	content, err := json.Marshal(r.all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeKernel notes what it all ran on.
func writeKernel(t *testing.T, file string) {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, release, 0o600); err != nil {
		t.Fatal(err)
	}
}

// record asks every flow of a scenario in every way.
func (k *cluster) record(t *testing.T, r *recorder, subject string, c configuration, s scenario) {
	entries := s.load(t)
	for _, e := range s.flows[c.name] {
		for _, w := range ways {
			q, port, ok := w.ask(entries[0], sources[e.from], destinations[e.to])
			if !ok {
				t.Fatalf("%s, %s: the Service has no such address", e.to, w)
			}
			right := c.judge(entries[0], port, q)
			r.all = append(r.all, findings.Finding{
				Subject: subject, Configuration: c.name, Scenario: s.name, From: e.from, To: e.to, Way: w.String(),
				Want: strings.Join(seen(q, right), ", "), Got: strings.Join(k.survey(q, right), ", "),
			})
		}
	}
}

// survey asks until every right answer has come or a wrong one. Which port of the node an
// endpoint sees is nobody's business here.
func (k *cluster) survey(q question, right oracle.Outcome) []string {
	limit, want := time.Second, seen(q, right)
	if right.Fate == oracle.Dropped {
		limit = silence
	}
	got := map[string]bool{}
	for i := range asksEach {
		words, _ := k.words(q, limit)
		if q.isUDP() && q.From == oracle.Host && (words == "refused" || words == "no answer") && right.Fate != oracle.Answered {
			words = "not sent" // the host cannot tell these apart
		}
		got[words] = true
		if !slices.Contains(want, words) || len(got) == len(want) && i > 0 {
			break
		}
	}
	var words []string
	for w := range got {
		words = append(words, w)
	}
	slices.SortFunc(words, cmp.Compare)
	return words
}

// seen gives the answers that there are to be, without ports, sorted.
func seen(q question, right oracle.Outcome) []string {
	words := expected(q, right)
	for i := range words {
		words[i] = strings.TrimSuffix(words[i], byPort(q, true))
	}
	slices.Sort(words)
	return slices.Compact(words)
}
