package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/test/lab"
	"github.com/mooring-project/mooring/test/peers"
)

// Addresses of the cluster besides those of its objects.
const (
	// endpointCIDR has all endpoints of the bench's Services, podCIDR the client too.
	endpointCIDR = "10.128.0.0/10"
	podCIDR      = "10.128.0.0/9"
	// apiAddress is the endpoint of the Service default/kubernetes; see controlplane.Options.
	apiAddress   = "192.0.2.1"
	endpointPort = 8080
)

// node is a machine of the cluster with two pods: one that asks, and one that has the addresses of
// all endpoints and answers on each.
type node struct {
	network *lab.Network
	*lab.Node
	client, endpoints *lab.Sandbox
	listeners         []net.Listener
}

func newNode(ctx context.Context) (*node, error) {
	network, err := lab.NewNetwork(1)
	if err != nil {
		return nil, err
	}
	n := &node{network: network, Node: network.Nodes[0]}
	if err := n.build(ctx); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) build(ctx context.Context) (err error) {
	if n.client, err = n.NewSandbox("client"); err != nil {
		return err
	}
	if n.endpoints, err = n.NewSandbox("endpoints"); err != nil {
		return err
	}
	for _, destination := range []string{endpointCIDR, apiAddress + "/32"} {
		if err := errors.Join(
			ip(ctx, n.endpoints.Namespace, "route", "add", "local", destination, "dev", "lo"),
			ip(ctx, n.Namespace, "route", "add", destination, "via", n.endpoints.V4.String()),
		); err != nil {
			return err
		}
	}
	_, apiPort, err := net.SplitHostPort(os.Getenv(peers.UpstreamVariable))
	if err != nil {
		return fmt.Errorf("%s: %w", peers.UpstreamVariable, err)
	}
	for _, port := range []string{strconv.Itoa(endpointPort), apiPort} {
		listener, err := n.endpoints.Listen("tcp4", ":"+port)
		if err != nil {
			return err
		}
		n.listeners = append(n.listeners, listener)
		go serve(listener)
	}
	return nil
}

func ip(ctx context.Context, in *lab.Namespace, args ...string) error {
	out, status, err := in.Exec(ctx, append([]string{"ip"}, args...)...)
	if err == nil && status != 0 {
		err = fmt.Errorf("ip %s: %s", strings.Join(args, " "), out)
	}
	return err
}

// close gives everything up; the interfaces go with the last process.
func (n *node) close() {
	for _, listener := range n.listeners {
		_ = listener.Close() // nobody is asked any more
	}
	for _, sandbox := range []*lab.Sandbox{n.client, n.endpoints} {
		if sandbox != nil {
			sandbox.Close()
		}
	}
	n.network.Close()
}

// serve answers each connection by the address that it was made to, until the asker closes it.
func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			address := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().As4()
			if _, err := conn.Write(address[:]); err == nil {
				_, _ = conn.Read(make([]byte, 1)) // ends with the connection
			}
		}()
	}
}

// ask connects from the thread's namespace and gives the address of the pod that answers. The
// connection is reset in the end, so that neither side keeps it.
func ask(at netip.AddrPort, limit time.Duration) (netip.Addr, error) {
	conn, err := net.DialTimeout("tcp4", at.String(), limit)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	var answer [4]byte
	if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.SetDeadline(time.Now().Add(limit))); err != nil {
		return netip.Addr{}, err
	}
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom4(answer), nil
}
