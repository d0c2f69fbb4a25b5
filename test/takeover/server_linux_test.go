package takeover

import (
	"bufio"
	"fmt"
	"net"
	"testing"

	"github.com/mooring-project/mooring/test/lab"
)

const serverPort = 8080

// server is what runs in a pod: it answers each line and each datagram by its name and the client's
// address.
type server struct {
	name, node string
	sandbox    *lab.Sandbox
}

func startServer(t *testing.T, node *lab.Node, name string) *server {
	t.Helper()
	sandbox, err := node.NewSandbox(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sandbox.Close)
	s := &server{name, node.Name, sandbox}
	listener, err := sandbox.Listen("tcp", fmt.Sprintf(":%d", serverPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var packets net.PacketConn
	err = sandbox.Run(func() (err error) {
		packets, err = net.ListenPacket("udp", fmt.Sprintf(":%d", serverPort))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go s.accept(listener)
	go s.answer(packets)
	return s
}

func (s *server) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintf(conn, "%s %s\n", s.name, conn.RemoteAddr()); err != nil {
					return
				}
			}
		}()
	}
}

func (s *server) answer(packets net.PacketConn) {
	buffer := make([]byte, 64)
	for {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(writerTo{packets, from}, "%s %s\n", s.name, from) // the client sees it
	}
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(p []byte) (int, error) { return w.WriteTo(p, w.to) }
