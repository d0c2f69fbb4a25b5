package mooring

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// capture keeps what is sent, whichever way it comes.
type capture struct {
	test.ResponseWriter
	wire  []byte
	whole int
}

func (c *capture) WriteMsg(m *dns.Msg) (err error) {
	c.whole++
	c.wire, err = m.Pack()
	return err
}

func (c *capture) Write(wire []byte) (int, error) {
	c.wire = append([]byte(nil), wire...)
	return len(wire), nil
}

// sent gives the message that arrives at the client.
func (c *capture) sent(t *testing.T) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(c.wire); err != nil {
		t.Fatal(err)
	}
	return m
}

var wireReplies = []struct {
	situation string
	name      string
	answer    []string
	ns, extra []string
	rcode     int
	size      uint16 // of EDNS; 0 is none
	option    bool
	// other is true if the reply takes the way through the ScrubWriter.
	other bool
}{
	{situation: "one address", name: "web.test.", answer: []string{"web.test. 5 IN A 10.0.0.1"}},
	{situation: "IPv6", name: "web.test.", answer: []string{"web.test. 5 IN AAAA fd00::1"}},
	{situation: "IPv4-mapped IPv6", name: "web.test.", answer: []string{"web.test. 5 IN AAAA ::ffff:10.0.0.1"}},
	{situation: "EDNS", name: "web.test.", answer: []string{"web.test. 5 IN A 10.0.0.1"}, size: 1232},
	{situation: "100 addresses in a large buffer", name: "web.test.", answer: many(100), size: 4096},
	{situation: "100 addresses in a small buffer", name: "web.test.", answer: many(100), other: true},
	{situation: "no such name", name: "no.test.", rcode: dns.RcodeNameError, ns: []string{"test. 5 IN SOA ns.dns.test. hostmaster.test. 1 2 3 4 5"}},
	{situation: "an explanation", name: "no.test.", rcode: dns.RcodeNameError, size: 512, option: true, ns: []string{"test. 5 IN SOA ns.dns.test. hostmaster.test. 1 2 3 4 5"}},
	{situation: "other owners", name: "Web.test.", answer: []string{"Web.test. 5 IN CNAME db.test.", "db.test. 5 IN A 10.0.0.1"}},
	{situation: "escaped name", name: `a\.b\032c.test.`, answer: []string{`a\.b\032c.test. 5 IN A 10.0.0.1`}},
	{situation: "the root", name: ".", ns: []string{". 5 IN SOA a. b. 1 2 3 4 5"}},
	{
		situation: "service records", name: "_http._tcp.web.test.", answer: []string{"_http._tcp.web.test. 5 IN SRV 0 100 80 web.test."},
		extra: []string{"web.test. 5 IN A 10.0.0.1"}, size: 1232,
	},
	{situation: "extended rcode", name: "web.test.", rcode: dns.RcodeBadVers, size: 1232, other: true},
}

func many(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("web.test. 5 IN A 10.0.0.%d", i))
	}
	return out
}

// TestWireWriterSendsWhatScrubWriterSends packs each reply both ways.
func TestWireWriterSendsWhatScrubWriterSends(t *testing.T) {
	for _, c := range wireReplies {
		t.Run(c.situation, func(t *testing.T) {
			build := func() (query, reply *dns.Msg) {
				query = new(dns.Msg).SetQuestion(c.name, dns.TypeA)
				query.Id = 4711
				if c.size > 0 {
					query.SetEdns0(c.size, false)
				}
				reply = new(dns.Msg).SetRcode(query, c.rcode)
				reply.Authoritative, reply.CheckingDisabled = true, true
				reply.Answer, reply.Ns, reply.Extra = parsed(t, c.answer), parsed(t, c.ns), parsed(t, c.extra)
				if c.option {
					reply.Extra = append(reply.Extra, explained(explanation{dns.ExtendedErrorCodeOther, "because"}))
				}
				return query, reply
			}
			ours, stock := new(capture), new(capture)
			query, reply := build()
			w := &wireWriter{ScrubWriter: request.NewScrubWriter(query, ours), query: query}
			if err := w.WriteMsg(reply); err != nil {
				t.Fatal(err)
			}
			query, reply = build()
			if err := request.NewScrubWriter(query, stock).WriteMsg(reply); err != nil {
				t.Fatal(err)
			}
			want, got := stock.sent(t), ours.sent(t)
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Errorf("(-stock +ours):\n%s", diff)
			}
			if took := ours.whole == 1; took != c.other {
				t.Errorf("went through the ScrubWriter: %t, want %t", took, c.other)
			}
		})
	}
}

func parsed(t *testing.T, lines []string) (out []dns.RR) {
	t.Helper()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		if aaaa, is := rr.(*dns.AAAA); is {
			aaaa.AAAA = aaaa.AAAA.To16()
		}
		out = append(out, rr)
	}
	return out
}

// served notes the writers that reach the end of a chain.
type served struct{ writer dns.ResponseWriter }

func (*served) Name() string { return "served" }

func (s *served) ServeDNS(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
	s.writer = w
	return dns.RcodeSuccess, nil
}

// socket is a writer that knows of its connection, as the server's own do.
type socket struct{ test.ResponseWriter }

func (*socket) ConnectionState() *tls.ConnectionState { return nil }

// TestWriterOfAnotherPluginIsKept builds servers on whose listener a plugin has replaced
// the writer, as shed does: in our server block, or in another.
func TestWriterOfAnotherPluginIsKept(t *testing.T) {
	replace := func(*dnsserver.Server) dns.DecorateWriter { return nil }
	for situation, c := range map[string]struct {
		here, before, after bool
		ours                bool
	}{
		"nobody":            {ours: true},
		"in our block":      {here: true},
		"in a block before": {before: true},
		"in a block behind": {after: true},
		"in the two others": {before: true, after: true},
	} {
		t.Run(situation, func(t *testing.T) {
			end := new(served)
			group := []*dnsserver.Config{{Zone: "before.test."}, {Zone: "our.test."}, {Zone: "after.test."}}
			for i, replaced := range []bool{c.before, c.here, c.after} {
				if replaced {
					group[i].UDPDecorateWriterFunc = replace
				}
			}
			packOutside(group[1])
			group[1].AddPlugin(func(plugin.Handler) plugin.Handler { return end })
			server, err := dnsserver.NewServer("dns://:0", group)
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.WithValue(context.Background(), dnsserver.Key{}, server)
			server.ServeDNS(ctx, new(socket), new(dns.Msg).SetQuestion("web.our.test.", dns.TypeA))
			if _, ours := end.writer.(*wireWriter); ours != c.ours {
				t.Errorf("the writer is a %T", end.writer)
			}
		})
	}
}
