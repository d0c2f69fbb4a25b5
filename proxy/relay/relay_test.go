package relay

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answerTCP serves on a loopback port: it reads to the end of the request and answers with
// name and what it read.
func answerTCP(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			request, _ := io.ReadAll(conn)
			io.WriteString(conn, name+" "+string(request)) //nolint:errcheck // the client's check fails then
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// answerUDP answers each datagram with name and what it read.
func answerUDP(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, client, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort([]byte(name+" "+string(buffer[:n])), client) //nolint:errcheck // the client's check fails then
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// freePort gives a loopback port that nothing listens on.
func freePort(t *testing.T, protocol model.Protocol) uint16 {
	t.Helper()
	if protocol == model.UDP {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

func key(protocol model.Protocol, port uint16, target netip.AddrPort) plan.Key {
	return plan.Key{Kind: plan.Relay, Protocol: protocol, Port: port, Addr: netip.MustParseAddr("127.0.0.1"), Endpoint: target}
}

func newSet(t *testing.T) *Set {
	set := NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(set.Close)
	return set
}

// ask sends a request through the relay and gives the answer.
func ask(t *testing.T, protocol model.Protocol, port uint16, request string) (string, error) {
	t.Helper()
	network := strings.ToLower(protocol.String())
	conn, err := net.DialTimeout(network, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String(), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // a hang fails the read instead
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil {
			return "", err
		}
		answer, err := io.ReadAll(conn)
		return string(answer), err
	}
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

func TestRelayPassesOnAndFollowsItsTarget(t *testing.T) {
	for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
		t.Run(protocol.String(), func(t *testing.T) {
			answer := answerTCP
			if protocol == model.UDP {
				answer = answerUDP
			}
			one, two := answer(t, "one"), answer(t, "two")
			set, port := newSet(t), freePort(t, protocol)
			steps := []struct {
				name string
				op   plan.Op
				want string // empty: refused
			}{
				{"started", plan.Op{Verb: plan.Add, Key: key(protocol, port, one)}, "one hello"},
				{"redirected", plan.Op{Verb: plan.Add, Key: key(protocol, port, two)}, "two hello"},
				{"the old target's deletion comes after", plan.Op{Verb: plan.Delete, Key: key(protocol, port, one)}, "two hello"},
				{"stopped", plan.Op{Verb: plan.Delete, Key: key(protocol, port, two)}, ""},
				{"stopped twice", plan.Op{Verb: plan.Delete, Key: key(protocol, port, two)}, ""},
			}
			for _, step := range steps {
				if err := set.Apply(step.op); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
				got, err := ask(t, protocol, port, "hello")
				if got != step.want || (err != nil) != (step.want == "") {
					t.Errorf("%s: answer %q, %v; want %q", step.name, got, err, step.want)
				}
			}
		})
	}
}

func TestRelayOnATakenPortNamesIt(t *testing.T) {
	taken := answerTCP(t, "host daemon")
	err := newSet(t).Apply(plan.Op{Verb: plan.Add, Key: key(model.TCP, taken.Port(), taken)})
	if err == nil || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("error %v does not name %s", err, taken)
	}
}

func TestRelayResetsTheClientWhenTheTargetRefuses(t *testing.T) {
	set, port := newSet(t), freePort(t, model.TCP)
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t, model.TCP))
	if err := set.Apply(plan.Op{Verb: plan.Add, Key: key(model.TCP, port, nobody)}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, model.TCP, port, "hello"); err == nil {
		t.Errorf("answer %q without an error", got)
	}
}
