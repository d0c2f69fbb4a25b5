package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// A Sandbox is the namespace of one pod with its addresses on a node.
type Sandbox struct {
	*Namespace
	Addresses

	node *Node
	link string // the node's end of the pod's link
}

// NewSandbox attaches a pod to the node by a routed pair: the node has a route to the
// pod's address alone, the pod a default route to the node. There is no bridge
// between pods, so every packet passes the node's IPVS.
func (n *Node) NewSandbox(name string, mounts ...Mount) (*Sandbox, error) {
	number := n.nextPod()
	addresses, err := podAddresses(n.number, number)
	if err != nil {
		return nil, err
	}
	ns, err := NewNamespace(name, mounts...)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Namespace: ns, Addresses: addresses, node: n, link: fmt.Sprintf("pod%d", number)}
	if err := s.connect(); err != nil {
		ns.Close()
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	return s, nil
}

func (n *Node) nextPod() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastPod++
	return n.lastPod
}

func (s *Sandbox) connect() error {
	gateway, err := podAddresses(s.node.number, 1)
	if err != nil {
		return err
	}
	return errors.Join(
		veth(s.node.Namespace, s.link, s.Namespace, "eth0"),
		s.node.addAddress(s.link, host(gateway.V4)),
		s.node.addAddress(s.link, host(gateway.V6)),
		s.node.addRoute(route{To: host(s.V4), Link: s.link}),
		s.node.addRoute(route{To: host(s.V6), Link: s.link}),
		s.addAddress("eth0", host(s.V4)),
		s.addAddress("eth0", host(s.V6)),
		s.addRoute(route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Link: "eth0", Via: gateway.V4}),
		s.addRoute(route{To: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Link: "eth0", Via: gateway.V6}),
	)
}

// Remove takes the pod off the node; from then on its addresses are unreachable.
func (s *Sandbox) Remove() error {
	err := s.node.deleteLink(s.link)
	s.Close()
	return err
}
