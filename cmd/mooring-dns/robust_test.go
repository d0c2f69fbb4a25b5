package main

import (
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestBadClients lets clients misbehave, while another one must be served all the time.
func TestBadClients(t *testing.T) {
	s := start(t, filled(t, "cluster.local:0 { $MOORING } }"))
	r := rand.New(rand.NewPCG(testSeed(t), 1))
	for name, misbehave := range map[string]func(*testing.T, *server, *rand.Rand){
		"random bytes":        sendRandomBytes,
		"damaged queries":     sendDamagedQueries,
		"no question":         func(t *testing.T, s *server, _ *rand.Rand) { sendQuestions(t, s, 0) },
		"two questions":       func(t *testing.T, s *server, _ *rand.Rand) { sendQuestions(t, s, 2) },
		"name of 255 octets":  sendLongName,
		"TCP without a query": openSlowConnections,
	} {
		t.Run(name, func(t *testing.T) {
			misbehave(t, s, r)
			reply := exchange(t, s, "web.default.svc.cluster.local.", dns.TypeA)
			if len(reply.Answer) != 1 {
				t.Errorf("another client got\n%s", reply)
			}
		})
	}
}

func testSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	return seed
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func sendRandomBytes(t *testing.T, s *server, r *rand.Rand) {
	conn := dial(t, "udp", s.udp)
	for range 500 {
		packet := make([]byte, r.IntN(600))
		for i := range packet {
			packet[i] = byte(r.Uint32())
		}
		_, _ = conn.Write(packet)
	}
}

// sendDamagedQueries changes a few octets of a good query.
func sendDamagedQueries(t *testing.T, s *server, r *rand.Rand) {
	conn := dial(t, "udp", s.udp)
	q := new(dns.Msg).SetQuestion("_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV)
	q.SetEdns0(1232, false)
	good, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		packet := append([]byte(nil), good...)
		for range 1 + r.IntN(3) {
			packet[r.IntN(len(packet))] = byte(r.Uint32())
		}
		_, _ = conn.Write(packet)
	}
}

func sendQuestions(t *testing.T, s *server, count int) {
	t.Helper()
	q := new(dns.Msg)
	for range count {
		q.Question = append(q.Question, dns.Question{Name: "web.default.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
	}
	q.Id = 7
	reply, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(q, s.udp)
	if err == nil && len(reply.Answer) > 0 {
		t.Errorf("answered:\n%s", reply)
	}
}

func sendLongName(t *testing.T, s *server, _ *rand.Rand) {
	name := strings.Repeat(strings.Repeat("a", 59)+".", 4) + "cluster.local."
	if len(name) != 254 { // 255 octets with the root's
		t.Fatalf("the name has %d octets", len(name))
	}
	if reply := exchange(t, s, name, dns.TypeA); reply.Rcode != dns.RcodeNameError {
		t.Errorf("got\n%s", reply)
	}
}

func openSlowConnections(t *testing.T, s *server, _ *rand.Rand) {
	for range 50 {
		conn := dial(t, "tcp", s.tcp)
		if _, err := conn.Write([]byte{0, 40, 1}); err != nil { // 40 octets announced, one sent
			t.Fatal(err)
		}
	}
	client := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), s.tcp)
	if err != nil || len(reply.Answer) != 1 {
		t.Errorf("over TCP: %v\n%v", err, reply)
	}
}
