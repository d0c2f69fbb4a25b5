package scenarios

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/test/scenarios/oracle"
)

const (
	// patience is how long an answer may take that should come at once.
	patience = 3 * time.Second
	// silence is how long none has to come where packets are dropped.
	silence = 300 * time.Millisecond
)

// TestPackets sends packets of every flow of the corpus, in every configuration.
func TestPackets(t *testing.T) {
	b := newTestbed(t)
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			b.configure(c)
			for _, s := range corpus(t) {
				if len(s.flows[c.name]) > 0 {
					t.Run(s.name, func(t *testing.T) { b.play(t, c, s) })
				}
			}
		})
	}
}

// play puts a scenario into the kernel and checks its flows. What answers the tables expect
// stands in addresses in the oracle's outcome, which TestCorpus proves to be the same.
func (b *testbed) play(t *testing.T, c configuration, s scenario) {
	entries := s.load(t)
	b.apply(t, c.plan(plan.NewMarks(), entries...))
	for _, e := range s.flows[c.name] {
		for _, w := range ways {
			q, port, ok := w.ask(entries[0], sources[e.from], destinations[e.to])
			if !ok {
				t.Errorf("%s, %s: the Service has no such address", e.to, w)
				continue
			}
			right := c.judge(entries[0], port, q)
			if words := describe(right, q); words != e.outcome {
				t.Fatalf("%s: oracle says %q, table %q", q, words, e.outcome)
			}
			b.check(t, q, right, entries[0].Service.AffinityTimeout > 0)
		}
	}
}

// check asks often enough for every endpoint to have its turn, and compares who answered and
// whom it saw. A client that is kept gets one of the right answers, and always the same.
func (b *testbed) check(t *testing.T, q question, right oracle.Outcome, kept bool) {
	t.Helper()
	limit, times := patience, max(1, len(right.Answers))
	if right.Fate == oracle.Dropped {
		limit = silence
	}
	if right.Fate == oracle.Answered && q.From == oracle.Host {
		times *= 2 // a masqueraded port may be the same by chance; not twice
	}
	moved := map[string]bool{}
	// A SYN that is sent again has a turn of its own, so an endpoint may need another question.
	for asked := 0; asked < times || !kept && len(moved) < len(right.Answers) && asked < 4*times; asked++ {
		words, another := b.words(q, limit)
		moved[words] = moved[words] || another
	}
	var got []string
	for words, another := range moved {
		got = append(got, words+byPort(q, another))
	}
	slices.Sort(got)
	want := expected(q, right)
	if kept && len(got) == 1 && slices.Contains(want, got[0]) {
		return
	}
	if got, want := strings.Join(got, ", "), strings.Join(want, ", "); got != want || kept {
		t.Errorf("%s: %s; want %s", q, got, want)
	}
}

// byPort tells masqueraded connections of the node from others: the address is the node's in
// any case, but only masquerading moves them to another port.
func byPort(q question, another bool) string {
	if q.From == oracle.Host && another {
		return " by another port"
	}
	return ""
}

// words says what came of asking once, and whether the answerer saw another port than the
// asker has.
func (b *testbed) words(q question, limit time.Duration) (words string, another bool) {
	answer, port, err := b.ask(q, limit)
	var timeout net.Error
	switch {
	case err == nil:
		name, from, _ := strings.Cut(answer, " ")
		seen, err := netip.ParseAddrPort(from)
		if err != nil {
			return answer, false
		}
		return name + " sees " + seen.Addr().Unmap().String(), seen.Port() != port
	case errors.Is(err, syscall.EPERM) && q.isUDP() && q.From == oracle.Host:
		return "not sent", false // refused or dropped by a rule before it left
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", false
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer", false
	}
	return err.Error(), false
}

// expected gives the answers that there are to be, sorted.
func expected(q question, right oracle.Outcome) []string {
	switch {
	case q.isUDP() && q.From == oracle.Host && right.Fate != oracle.Answered:
		return []string{"not sent"}
	case right.Fate == oracle.Dropped:
		return []string{"no answer"}
	case right.Fate == oracle.Refused:
		return []string{"refused"}
	}
	var all []string
	for _, a := range right.Answers {
		seen := q.Addr
		if a.Masqueraded {
			seen = theNode.addr(q.ipv6)
		}
		all = append(all, nameOf(a.Endpoint)+" sees "+seen.String()+byPort(q, a.Masqueraded))
	}
	slices.Sort(all)
	return all
}

// TestRandomServicesInTheKernel changes Services at random, one after the other; after each
// step the kernel holds the plan and packets fare as the oracle says.
func TestRandomServicesInTheKernel(t *testing.T) {
	b := newTestbed(t)
	g := newGenerator(t, true)
	const steps, services, questionsEach = 40, 3, 12
	c := configurations[g.IntN(len(configurations))]
	t.Logf("configuration: %s", c.name)
	b.configure(c)
	marks := plan.NewMarks()
	entries := make([]*state.Service, services)
	for i := range entries {
		entries[i] = g.service(i)
	}
	for step := range steps {
		changed := g.IntN(services)
		entries[changed] = g.service(changed)
		b.apply(t, c.plan(marks, entries...))
		b.askSome(t, g, c, entries, questionsEach)
		if t.Failed() {
			for _, entry := range entries {
				t.Logf("Service %+v\nslices %s", entry.Service, dump(entry.Slices))
			}
			t.Fatalf("step %d\n%s", step, b.have)
		}
	}
}

// askSome asks some of all questions.
func (b *testbed) askSome(t *testing.T, g generator, c configuration, entries []*state.Service, number int) {
	t.Helper()
	for range number {
		entry, w := entries[g.IntN(len(entries))], ways[g.IntN(len(ways))]
		if q, port, ok := w.ask(entry, oracle.Source(g.IntN(len(sources))), oracle.Destination(g.IntN(len(destinations)))); ok {
			b.check(t, q, c.judge(entry, port, q), entry.Service.AffinityTimeout > 0)
		}
	}
}
