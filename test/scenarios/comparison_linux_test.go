package scenarios

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/scenarios/findings"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

// asksEach bounds how often a flow is asked until every endpoint has answered: two that are
// chosen at random have by then, but for one time in thirty thousand.
const asksEach = 16

// asksOfOneKept is how often a client asks that is to be kept: one that is not kept gets the same
// answer so often one time in two hundred.
const asksOfOneKept = 8

// enough is how long an answer may take: a machine that is emulated beside other work stands still
// for more than a second now and then.
const enough = 3 * time.Second

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
	entry := s.load(t)[0]
	for _, e := range s.flows[c.name] {
		for _, w := range ways {
			q, port, ok := w.ask(entry, sources[e.from], destinations[e.to])
			if !ok {
				t.Fatalf("%s, %s: the Service has no such address", e.to, w)
			}
			v := survey{question: q, service: entry.Service, want: seen(q, c.judge(entry, port, q))}
			v.ask(k)
			r.all = append(r.all, findings.Finding{
				Subject: subject, Configuration: c.name, Scenario: s.name, From: e.from, To: e.to, Way: w.String(),
				Want: v.wanted(), Got: v.inWords(v.got), OtherSource: v.otherSource(),
			})
		}
	}
}

// survey is what comes of asking one question until every right answer has come or a wrong one.
// Which port of the node an endpoint sees is nobody's business here.
type survey struct {
	question
	service   *model.Service
	want, got []string
}

func (v *survey) ask(k *cluster) {
	limit, asks := enough, asksEach
	switch {
	case slices.Equal(v.want, []string{"no answer"}):
		limit = silence
	case v.kept():
		asks = asksOfOneKept
	}
	for i := range asks {
		words := k.timely(v.question, limit)
		if v.isUDP() && v.From == oracle.Host && (words == "refused" || words == "no answer") && slices.Equal(v.want, []string{"not sent"}) {
			words = "not sent" // the host cannot tell these apart
		}
		if !slices.Contains(v.got, words) {
			v.got = append(v.got, words)
		}
		if !slices.Contains(v.want, v.asTheNode(words)) || !v.kept() && len(v.got) == len(v.want) && i > 0 {
			break
		}
	}
}

// timely gives the words for what comes of asking once, and tells a refusal of the first SYN from
// one of the second: an ICMPv6 error that comes while connect is still at work is only noted
// (tcp_v6_err, tcp_ipv6.c), as on links between namespaces, where it comes at once. A reset is not.
func (k *cluster) timely(q question, limit time.Duration) string {
	asked := time.Now()
	words, _ := k.words(q, limit)
	if words == findings.Refused && time.Since(asked) > 900*time.Millisecond {
		return findings.RefusedLate
	}
	return words
}

// kept tells whether the client is to get one of the right answers, always the same.
func (v *survey) kept() bool { return v.service.AffinityTimeout > 0 && len(v.want) > 1 }

func (v *survey) wanted() string {
	if v.kept() {
		return "always one of: " + strings.Join(v.want, ", ")
	}
	return strings.Join(v.want, ", ")
}

func (v *survey) inWords(got []string) string {
	if v.kept() && len(got) == 1 && slices.Contains(v.want, got[0]) {
		return v.wanted()
	}
	return strings.Join(slices.Sorted(slices.Values(got)), ", ")
}

// otherSource tells whether the answers are right but for the source that endpoints see.
func (v *survey) otherSource() bool {
	var got []string
	for _, words := range v.got {
		if words = v.asTheNode(words); !slices.Contains(got, words) {
			got = append(got, words)
		}
	}
	return v.inWords(got) == v.wanted() && v.inWords(v.got) != v.wanted()
}

// asTheNode has an endpoint see the node where it sees an address of the Service: a proxy that has
// bound those to the node masquerades to them over IPv6 when no other of the node's addresses is
// more like the endpoint's (ipv6_dev_get_saddr, addrconf.c).
func (v *survey) asTheNode(words string) string {
	name, address, _ := strings.Cut(words, " sees ")
	bound := slices.Concat(v.service.ClusterIPs, v.service.LoadBalancerIPs, v.service.ExternalIPs)
	if a, err := netip.ParseAddr(address); err == nil && slices.Contains(bound, a) {
		return name + " sees " + theNode.addr(v.ipv6).String()
	}
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
