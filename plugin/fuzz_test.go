package mooring

import (
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
)

// FuzzQuestion asks for arbitrary names, as they come off the wire. Whatever the name,
// the reply must be one that can be packed, of a known response code, and about the name
// asked for.
func FuzzQuestion(f *testing.F) {
	for _, name := range []string{
		"\x03web\x07default\x03svc\x07cluster\x05local\x00",
		"\x05_http\x04_tcp\x03web\x07default\x03svc\x07cluster\x05local\x00",
		"\x04eu-1\x03pin\x05_zone\x05peers\x04prod\x03svc\x07cluster\x05local\x00",
		"\x0a10-244-1-5\x07default\x03pod\x07cluster\x05local\x00",
		"\x011\x010\x0296\x0210\x07in-addr\x04arpa\x00",
		"\x011\x03ip6\x04arpa\x00",
		"\x03out\x04prod\x03svc\x07Cluster\x05loCal\x00",
		"\x04loop\x04prod\x03svc\x07cluster\x05local\x00",
		"\x03a.b\x02\\.\x03svc\x07cluster\x05local\x00",
		"\x07cluster\x05local\x00",
		"\x00",
	} {
		for _, rrtype := range transferTypes {
			f.Add([]byte(name), rrtype)
		}
	}
	plugins := make([]*Mooring, 0, 2)
	for _, mode := range []string{"pods verified", "pods insecure\ncompat stock"} {
		m := newTestPlugin(f, "mooring cluster.local in-addr.arpa ip6.arpa . {\nzonal\n"+mode+"\n}")
		m.Upstream = resolver{}
		plugins = append(plugins, m)
	}
	f.Fuzz(func(t *testing.T, wire []byte, rrtype uint16) {
		name, _, err := dns.UnpackDomainName(wire, 0)
		if err != nil || rrtype == dns.TypeAXFR || rrtype == dns.TypeIXFR {
			t.Skip()
		}
		q := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: rrtype, Qclass: dns.ClassINET}}}
		q.SetEdns0(1232, false)
		for _, m := range plugins {
			reply, _, err := askMsg(m, q)
			if err != nil {
				t.Fatal(err)
			}
			checkReply(t, reply, name)
		}
	})
}

func checkReply(t *testing.T, reply *dns.Msg, name string) {
	t.Helper()
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure:
	default:
		t.Fatalf("rcode %d for %q", reply.Rcode, name)
	}
	if _, err := reply.Pack(); err != nil {
		t.Fatalf("reply to %q does not pack: %v", name, err)
	}
	if len(reply.Answer) > 0 && reply.Answer[0].Header().Name != name {
		t.Fatalf("asked for %q, first owner is %q", name, reply.Answer[0].Header().Name)
	}
	if len(reply.Answer) == 0 && len(reply.Ns) == 0 {
		t.Fatalf("negative reply to %q without SOA record", name)
	}
}

// FuzzStanza parses arbitrary configuration. It may be refused, but only with an error
// that says where it is wrong.
func FuzzStanza(f *testing.F) {
	for _, stanza := range []string{
		"mooring cluster.local", "mooring cluster.local {\nttl 5\npods verified\n}",
		"mooring cluster.local in-addr.arpa {\nfallthrough in-addr.arpa\nnamespaces a b\n}",
		"mooring {\nendpoint http://localhost\ntls a b c\napiserver_qps 0.5\napiserver_burst 3\n}",
		"mooring x {\nkubeconfig f c\nlabels a in (b, c)\nignore empty_service\nzonal\n}",
		"mooring x {\nmanifests dir\nnegative_ttl 3\nstartup_timeout 1s\ncompat stock\n}",
		"mooring x y 10.0.0.0/8 {\nmulticluster y\nnamespace_labels a=b\nnoendpoints\nendpoint_pod_names\napiserver_max_inflight 2\n}",
		"mooring x {\nsnapshot file max_age 1h unready\nstale_after 3m unready\npods insecure\nfallthrough\n}",
	} {
		f.Add(stanza)
	}
	f.Fuzz(func(t *testing.T, stanza string) {
		m, err := Parse(caddy.NewTestController("dns", stanza))
		if err != nil {
			return
		}
		if len(m.zones) == 0 || m.naming.primary == "" || m.ttl > maxTTL || m.negativeTTL > maxTTL {
			t.Errorf("accepted %q as %+v", stanza, m.config)
		}
		for _, z := range m.zones {
			if !strings.HasSuffix(z.name, ".") || strings.ToLower(z.name) != z.name {
				t.Errorf("zone %q of %q", z.name, stanza)
			}
		}
	})
}
