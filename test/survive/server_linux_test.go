package survive

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/mooring-project/mooring/test/lab"
)

const serverPort = 8080

// server is what runs in a pod. A client sends q and gets a line with the server's name, or p and gets
// p back, again and again until it ends the connection.
type server struct {
	name    string
	sandbox *lab.Sandbox

	listener net.Listener
	running  sync.WaitGroup
	// mu guards what follows.
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

func startServer(t *testing.T, node *lab.Node, name string) *server {
	t.Helper()
	sandbox, err := node.NewSandbox(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: name, sandbox: sandbox, conns: make(map[net.Conn]struct{})}
	if s.listener, err = sandbox.Listen("tcp4", fmt.Sprintf(":%d", serverPort)); err != nil {
		t.Fatal(err)
	}
	s.running.Go(s.accept)
	t.Cleanup(func() {
		s.close()
		s.end()
		s.running.Wait()
		sandbox.Close()
	})
	return s
}

func (s *server) address() netip.Addr { return s.sandbox.V4 }

func (s *server) endpoint() string { return netip.AddrPortFrom(s.address(), serverPort).String() }

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		ended := s.ended
		if !ended {
			s.conns[conn] = struct{}{}
		}
		s.mu.Unlock()
		if ended {
			conn.Close()
			return
		}
		s.running.Go(func() { s.serve(conn) })
	}
}

func (s *server) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	question := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		answer := question
		if question[0] == 'q' {
			answer = []byte(s.name + "\n")
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// close takes no more connections; those that there are stay.
func (s *server) close() { s.listener.Close() }

// end ends the connections, as a process does that exits.
func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for conn := range s.conns {
		conn.Close()
	}
}

// held gives the number of open connections.
func (s *server) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
