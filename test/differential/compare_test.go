package differential

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// reply makes a reply with these answer records; "tc" and names of response codes set
// what they say.
func reply(t *testing.T, records ...string) *dns.Msg {
	t.Helper()
	m := query{name: "web.default.svc.cluster.local.", qtype: dns.TypeA, client: clients[0]}.message()
	m.Response, m.Authoritative = true, true
	for _, text := range records {
		if rcode, is := dns.StringToRcode[text]; is {
			m.Rcode = rcode
			continue
		}
		if text == "tc" {
			m.Truncated = true
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := rr.(*dns.SOA); is {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

func TestDiffer(t *testing.T) {
	const (
		one, two = "a. 5 IN A 10.0.0.1", "a. 5 IN A 10.0.0.2"
		alias    = "a. 5 IN CNAME b."
		target   = "b. 5 IN A 10.0.0.1"
	)
	for name, test := range map[string]struct {
		stock, ours, whole []string
		want               []string
	}{
		"same":                       {stock: []string{one, two}, ours: []string{one, two}},
		"other order":                {stock: []string{one, two}, ours: []string{two, one}},
		"record missing":             {stock: []string{one, two}, ours: []string{one}, want: []string{"answer"}},
		"record twice":               {stock: []string{one}, ours: []string{one, one}, want: []string{"answer"}},
		"other TTL":                  {stock: []string{one}, ours: []string{"a. 6 IN A 10.0.0.1"}, want: []string{"answer"}},
		"other weight":               {stock: []string{"a. 5 IN SRV 0 50 80 b."}, ours: []string{"a. 5 IN SRV 0 100 80 b."}, want: []string{"answer"}},
		"other case of the owner":    {stock: []string{one}, ours: []string{strings.ToUpper(one[:1]) + one[1:]}, want: []string{"answer"}},
		"other rcode":                {stock: []string{"NXDOMAIN"}, ours: nil, want: []string{"rcode"}},
		"other serial":               {stock: []string{"z. 5 IN SOA m. r. 1 2 3 4 5"}, ours: []string{"z. 5 IN SOA m. r. 9 2 3 4 5"}},
		"other minimum":              {stock: []string{"z. 5 IN SOA m. r. 1 2 3 4 5"}, ours: []string{"z. 5 IN SOA m. r. 1 2 3 4 6"}, want: []string{"authority"}},
		"target before alias":        {stock: []string{alias, target}, ours: []string{target, alias}, want: []string{"order"}},
		"cut alike":                  {stock: []string{"tc", one}, ours: []string{"tc", two}, whole: []string{one, two}},
		"cut by one only":            {stock: []string{one, two}, ours: []string{"tc", one}, want: []string{"flags", "answer"}},
		"cut, with a strange record": {stock: []string{"tc", one}, ours: []string{"tc", target}, whole: []string{one, two}, want: []string{"answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.whole == nil {
				test.whole = test.stock
			}
			got := differ(canonical(reply(t, test.stock...)), canonical(reply(t, test.ours...)), canonical(reply(t, test.whole...)))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parts that differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryExceptionSaysWhatDecides(t *testing.T) {
	for _, e := range exceptions {
		if e.code == "" || !strings.Contains(e.decides, ":") || !(strings.Contains(e.decides, "RFC") || strings.Contains(e.decides, "specification") || strings.Contains(e.decides, "discovery/v1")) {
			t.Errorf("%q: %q names no standard and what it says", e.code, e.decides)
		}
	}
}
