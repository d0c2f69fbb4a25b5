package main

import (
	"bytes"
	"io"
	golog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// neighbour is a Corefile in which mooring works together with other plugins, and what
// comes of one question.
type neighbour struct {
	situation, corefile string
	ask                 string
	want                string
}

// $MOORING stands for the beginning of a stanza with the test's manifests.
var neighbours = []neighbour{
	{
		"alone", `cluster.local:0 { $MOORING } }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"cache does not keep our answers", `cluster.local:0 { cache 30
			$MOORING ttl 30
			} }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 30 IN A 10.96.0.20",
	},
	{
		"loadbalance", `cluster.local:0 { loadbalance
			$MOORING } }`,
		"db.default.svc.cluster.local. A", "NOERROR aa\ndb.default.svc.cluster.local. 5 IN A 10.244.1.5",
	},
	{
		"rewrite before us", `.:0 { rewrite name suffix .corp.test .svc.cluster.local answer auto
			bind 127.0.0.1
			mooring cluster.local {
			manifests $MANIFESTS
			} }`,
		"web.default.corp.test. A", "NOERROR aa\nweb.default.corp.test. 5 IN A 10.96.0.20",
	},
	{
		"acl before us", `cluster.local:0 { acl {
			block type A
			}
			$MOORING } }`,
		"web.default.svc.cluster.local. A", "REFUSED",
	},
	{
		"template before us", `cluster.local:0 { template IN AAAA {
			rcode NXDOMAIN
			}
			$MOORING } }`,
		"web.default.svc.cluster.local. AAAA", "NXDOMAIN aa",
	},
	{
		"hosts before us", `cluster.local:0 { hosts {
			192.0.2.7 web.default.svc.cluster.local
			fallthrough
			}
			$MOORING } }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 3600 IN A 192.0.2.7",
	},
	{
		"hosts falls through to us", `cluster.local:0 { hosts {
			192.0.2.7 other.default.svc.cluster.local
			fallthrough
			}
			$MOORING } }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"we fall through to file", `cluster.local:0 { $MOORING fallthrough
			}
			file $ZONEFILE }`,
		"extra.cluster.local. A", "NOERROR aa\nextra.cluster.local. 60 IN A 192.0.2.9",
	},
	{
		"minimal keeps what was asked for", `cluster.local:0 { minimal
			$MOORING } }`,
		"_http._tcp.web.default.svc.cluster.local. SRV",
		"NOERROR aa\n_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 100 80 web.default.svc.cluster.local.",
	},
	{
		"header changes our flags", `cluster.local:0 { header {
			response clear aa
			}
			$MOORING } }`,
		"web.default.svc.cluster.local. A", "NOERROR\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"autopath @mooring", `cluster.local:0 example.org:0 { autopath @mooring
			$MOORING pods verified
			} }`,
		"web.default.default.svc.cluster.local. A",
		"NOERROR aa\nweb.default.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"autopath @kubernetes", `cluster.local:0 { autopath @kubernetes
			$MOORING pods verified
			} }`,
		"web.default.default.svc.cluster.local. A",
		"NOERROR aa\nweb.default.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"k8s_external", `cluster.local:0 example.net:0 { k8s_external example.net
			$MOORING } }`,
		"web.default.example.net. A", "NOERROR aa\nweb.default.example.net. 5 IN A 198.51.100.20",
	},
	{
		"k8s_external SRV", `cluster.local:0 example.net:0 { k8s_external example.net
			$MOORING } }`,
		"_http._tcp.web.default.example.net. SRV",
		"NOERROR aa\n_http._tcp.web.default.example.net. 5 IN SRV 0 100 80 web.default.example.net.\nadditional: web.default.example.net. 5 IN A 198.51.100.20",
	},
	{
		"k8s_external PTR", `cluster.local:0 example.net:0 in-addr.arpa:0 { k8s_external example.net in-addr.arpa
			$MOORING } }`,
		"20.100.51.198.in-addr.arpa. PTR", "NOERROR aa\n20.100.51.198.in-addr.arpa. 5 IN PTR web.default.example.net.",
	},
	{
		"ExternalName through another server block", `cluster.local:0 { $MOORING } }
			example.org:0 { bind 127.0.0.1
			hosts {
			192.0.2.80 www.example.org
			} }`,
		"outside.default.svc.cluster.local. A",
		"NOERROR aa\noutside.default.svc.cluster.local. 5 IN CNAME www.example.org.\nwww.example.org. 3600 IN A 192.0.2.80",
	},
	{
		"ExternalName through the same block", `.:0 { bind 127.0.0.1
			hosts {
			192.0.2.80 www.example.org
			fallthrough
			}
			mooring cluster.local {
			manifests $MANIFESTS
			} }`,
		"outside.default.svc.cluster.local. A",
		"NOERROR aa\noutside.default.svc.cluster.local. 5 IN CNAME www.example.org.\nwww.example.org. 3600 IN A 192.0.2.80",
	},
	{
		"view by metadata", `.:0 { metadata
			view services {
			expr metadata('kubernetes/service') == 'web'
			}
			bind 127.0.0.1
			mooring cluster.local {
			manifests $MANIFESTS
			} }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"shed on the listener of another block", `cluster.local:0 { $MOORING } }
			example.org:0 { bind 127.0.0.1
			shed
			hosts {
			192.0.2.80 www.example.org
			} }`,
		"web.default.svc.cluster.local. A", "NOERROR aa\nweb.default.svc.cluster.local. 5 IN A 10.96.0.20",
	},
	{
		"chaos class is not ours", `.:0 { chaos v1
			$MOORING } }`,
		"version.bind. CH TXT", "NOERROR\nversion.bind. 0 CH TXT \"v1\"",
	},
}

func TestNeighbours(t *testing.T) {
	for _, test := range neighbours {
		t.Run(test.situation, func(t *testing.T) {
			s := start(t, filled(t, test.corefile))
			name, typ, _ := strings.Cut(test.ask, " ")
			q := new(dns.Msg)
			q.SetQuestion(name, dns.StringToType[strings.TrimPrefix(typ, "CH ")])
			if strings.HasPrefix(typ, "CH ") {
				q.Question[0].Qclass = dns.ClassCHAOS
			}
			if diff := cmp.Diff(test.want, text(send(t, s, q))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// filled puts paths into a Corefile.
func filled(t *testing.T, corefile string) string {
	t.Helper()
	dir, err := filepath.Abs("testdata/neighbours")
	if err != nil {
		t.Fatal(err)
	}
	zoneFile := filepath.Join(t.TempDir(), "zone")
	zone := "$ORIGIN cluster.local.\n@ 60 IN SOA ns admin 1 2 3 4 5\n@ 60 IN NS ns\nextra 60 IN A 192.0.2.9\n"
	if err := os.WriteFile(zoneFile, []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	corefile = strings.NewReplacer("{ ", "{\n", " }", "\n}").Replace(corefile) // as the syntax wants it
	return strings.NewReplacer("$MOORING", "bind 127.0.0.1\nmooring {\nmanifests "+dir+"\n", "$MANIFESTS", dir,
		"$ZONEFILE", zoneFile).Replace(corefile)
}

func send(t *testing.T, s *server, q *dns.Msg) *dns.Msg {
	t.Helper()
	client := &dns.Client{}
	reply, _, err := client.Exchange(q, s.udp)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// text writes a reply without its authority section.
func text(m *dns.Msg) string {
	out := dns.RcodeToString[m.Rcode]
	if m.Authoritative {
		out += " aa"
	}
	for _, rr := range m.Answer {
		out += "\n" + strings.ReplaceAll(rr.String(), "\t", " ")
	}
	for _, rr := range m.Extra {
		if _, opt := rr.(*dns.OPT); !opt {
			out += "\nadditional: " + strings.ReplaceAll(rr.String(), "\t", " ")
		}
	}
	return out
}

func TestDNSSECSignsOurAnswers(t *testing.T) {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "cluster.local.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "Kcluster.local")
	write(t, base+".key", key.String()+"\n")
	write(t, base+".private", key.PrivateKeyString(private))
	s := start(t, filled(t, "cluster.local:0 { dnssec {\nkey file "+base+"\n}\n$MOORING } }"))
	q := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	q.SetEdns0(4096, true)
	reply := send(t, s, q)
	for _, rr := range reply.Answer {
		if sig, is := rr.(*dns.RRSIG); is {
			if err := sig.Verify(key, reply.Answer[:1]); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("no signature in\n%s", reply)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTransferIsWhatQueriesGet(t *testing.T) {
	s := start(t, filled(t, "cluster.local:0 { transfer {\nto *\n}\n$MOORING } }"))
	got := transfer(t, s, new(dns.Msg).SetAxfr("cluster.local."))
	want := map[string]string{
		"web.default.svc.cluster.local. A":              "10.96.0.20",
		"web.default.svc.cluster.local. SRV":            "0 100 80 web.default.svc.cluster.local.",
		"_http._tcp.web.default.svc.cluster.local. SRV": "0 100 80 web.default.svc.cluster.local.",
		"10-244-1-5.web.default.svc.cluster.local. A":   "10.244.1.5",
		"10-244-1-5.web.default.svc.cluster.local. SRV": "0 100 80 10-244-1-5.web.default.svc.cluster.local.",
		"db.default.svc.cluster.local. A":               "10.244.1.5",
		"db.default.svc.cluster.local. SRV":             "0 100 5432 10-244-1-5.db.default.svc.cluster.local.",
		"_sql._tcp.db.default.svc.cluster.local. SRV":   "0 100 5432 10-244-1-5.db.default.svc.cluster.local.",
		"10-244-1-5.db.default.svc.cluster.local. A":    "10.244.1.5",
		"10-244-1-5.db.default.svc.cluster.local. SRV":  "0 100 5432 10-244-1-5.db.default.svc.cluster.local.",
		"outside.default.svc.cluster.local. CNAME":      "www.example.org.",
		"dns-version.cluster.local. TXT":                `"1.1.0"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// transfer gives what a transfer sends, without the SOA record; its count must be two.
func transfer(t *testing.T, s *server, q *dns.Msg) map[string]string {
	t.Helper()
	envelopes, err := new(dns.Transfer).In(q, s.tcp)
	if err != nil {
		t.Fatal(err)
	}
	got, soa := make(map[string]string), 0
	for envelope := range envelopes {
		if envelope.Error != nil {
			t.Fatal(envelope.Error)
		}
		for _, rr := range envelope.RR {
			if rr.Header().Rrtype == dns.TypeSOA {
				soa++
				continue
			}
			h := rr.Header()
			got[h.Name+" "+dns.TypeToString[h.Rrtype]] = strings.TrimPrefix(rr.String(), h.String())
		}
	}
	if soa != 2 {
		t.Errorf("%d SOA records, want 2", soa)
	}
	return got
}

// TestIncrementalTransfer gets nothing new if it has the present serial, and the zone as a
// whole otherwise, as RFC 1995 section 2 permits.
func TestIncrementalTransfer(t *testing.T) {
	s := start(t, filled(t, "cluster.local:0 { transfer {\nto *\n}\n$MOORING } }"))
	present := send(t, s, new(dns.Msg).SetQuestion("cluster.local.", dns.TypeSOA)).Answer[0].(*dns.SOA).Serial
	for situation, test := range map[string]struct {
		serial uint32
		whole  bool
	}{"present serial": {present, false}, "serial of before": {present - 1, true}} {
		t.Run(situation, func(t *testing.T) {
			q := new(dns.Msg).SetIxfr("cluster.local.", test.serial, "ns.", "host.")
			reply, _, err := (&dns.Client{Net: "tcp"}).Exchange(q, s.tcp)
			if err != nil {
				t.Fatal(err)
			}
			if whole := len(reply.Answer) > 1; len(reply.Answer) == 0 || reply.Answer[0].Header().Rrtype != dns.TypeSOA || whole != test.whole {
				t.Errorf("want the whole zone: %t, got\n%s", test.whole, reply)
			}
		})
	}
}

// get fetches a page of a server of this process.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url) //nolint:gosec,noctx // on the loopback interface
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return response.StatusCode, string(content)
}

func TestReadyFollowsTheSync(t *testing.T) {
	port := freePort(t)
	start(t, filled(t, "cluster.local:0 { ready 127.0.0.1:"+port+"\n$MOORING } }"))
	if status, body := get(t, "http://127.0.0.1:"+port+"/ready"); status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
}

// TestHealthAndMetrics asks two questions of a server and looks for them, and for what the
// manual page lists, among the metrics.
func TestHealthAndMetrics(t *testing.T) {
	health, metrics := freePort(t), freePort(t)
	s := start(t, filled(t, "cluster.local:0 { health 127.0.0.1:"+health+"\nprometheus 127.0.0.1:"+metrics+"\n$MOORING } }"))
	if status, body := get(t, "http://127.0.0.1:"+health+"/health"); status != http.StatusOK {
		t.Errorf("health: status %d: %s", status, body)
	}
	exchange(t, s, "web.default.svc.cluster.local.", dns.TypeA)
	exchange(t, s, "none.default.svc.cluster.local.", dns.TypeA)
	wanted := []string{
		`coredns_dns_responses_total\{plugin="mooring",rcode="NOERROR",server="dns://[^"]*",view="",zone="cluster.local."\} 1`,
		`coredns_dns_responses_total\{plugin="mooring",rcode="NXDOMAIN",server="dns://[^"]*",view="",zone="cluster.local."\} 1`,
		`coredns_mooring_synced\{zone="cluster.local."\} 1`,
	}
	for _, name := range documentedMetrics(t) {
		wanted = append(wanted, name+`\{[^}]*zone="cluster.local."[^}]*\} \d`)
	}
	deadline := time.Now().Add(10 * time.Second) // ages are looked at once a second
	for {
		_, page := get(t, "http://127.0.0.1:"+metrics+"/metrics")
		wanted = slices.DeleteFunc(wanted, func(pattern string) bool { return regexp.MustCompile("(?m)^" + pattern).MatchString(page) })
		if len(wanted) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no metric matches %q in\n%s", wanted, page)
		}
	}
}

// documentedMetrics are those of the manual page that every server has from its start.
func documentedMetrics(t *testing.T) (names []string) {
	t.Helper()
	page, err := os.ReadFile("../../plugin/README.md")
	if err != nil {
		t.Fatal(err)
	}
	later := regexp.MustCompile("duration|restored|disk_snapshot")
	for _, match := range regexp.MustCompile("(?m)^\\* `(coredns_mooring_\\w+)\\{").FindAllStringSubmatch(string(page), -1) {
		if !later.MatchString(match[1]) {
			names = append(names, match[1])
		}
	}
	if len(names) < 4 {
		t.Errorf("the manual page lists only %q", names)
	}
	return names
}

// TestLogAndMetadata has the plugin log write what ours knows of a question.
func TestLogAndMetadata(t *testing.T) {
	var lines bytes.Buffer
	before := golog.Writer()
	golog.SetOutput(&lines)
	defer golog.SetOutput(before)
	s := start(t, filled(t, "cluster.local:0 { metadata\nlog . \"{type} {rcode} {>rflags} {/kubernetes/service} {/kubernetes/namespace} {/kubernetes/port-name}\"\n$MOORING } }"))
	exchange(t, s, "_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV)
	if err := s.instance.Stop(); err != nil { // so that the line has been written
		t.Fatal(err)
	}
	if want := "SRV NOERROR qr,aa,rd web default http"; !strings.Contains(lines.String(), want) {
		t.Errorf("no %q in %q", want, lines.String())
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
