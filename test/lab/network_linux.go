package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// A Network is the machines of the lab: the underlay, the nodes and a client outside
// of the cluster.
type Network struct {
	// Underlay has the bridge and the relay's address.
	Underlay *Namespace
	// Nodes are node-1, node-2 and so on.
	Nodes []*Node
	// Outside is a host that knows the nodes, but no route to pods or Services.
	Outside *Namespace
}

// A Node is a machine of the cluster with a part of the pod range.
type Node struct {
	*Namespace
	Addresses

	number int
	// mu guards lastPod.
	mu      sync.Mutex
	lastPod int // number of the newest pod; numbers are not used twice
}

const bridge = "br0"

// NewNetwork makes the underlay with so many nodes and the outside client.
func NewNetwork(nodes int) (*Network, error) {
	n := &Network{}
	if err := n.build(nodes); err != nil {
		n.Close()
		return nil, fmt.Errorf("network: %w", err)
	}
	return n, nil
}

func (n *Network) build(nodes int) (err error) {
	if n.Underlay, err = newUnderlay(); err != nil {
		return err
	}
	if n.Outside, err = n.attach("outside", outsideNumber); err != nil {
		return err
	}
	for i := 1; i <= nodes; i++ {
		node, err := n.newNode(i)
		if err != nil {
			return err
		}
		n.Nodes = append(n.Nodes, node)
	}
	return n.joinPodRanges()
}

// newUnderlay makes the bridge, which is also everybody's default gateway: a host
// without a route to a Service would not even try to reach it.
func newUnderlay() (*Namespace, error) {
	u, err := NewNamespace("underlay")
	if err != nil {
		return nil, err
	}
	gateway := onUnderlay(gatewayNumber)
	if err := errors.Join(
		u.addBridge(bridge),
		u.addAddress(bridge, netip.PrefixFrom(gateway.V4, underlay4.Bits())),
		u.addAddress(bridge, netip.PrefixFrom(gateway.V6, underlay6.Bits())),
		u.addAddress(bridge, host(RelayAddress)),
	); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// attach makes a machine on the underlay.
func (n *Network) attach(name string, number int) (*Namespace, error) {
	ns, err := NewNamespace(name)
	if err != nil {
		return nil, err
	}
	own, gateway := onUnderlay(number), onUnderlay(gatewayNumber)
	port := fmt.Sprintf("port%d", number)
	if err := errors.Join(
		veth(n.Underlay, port, ns, "eth0"),
		n.Underlay.enslave(port, bridge),
		ns.addAddress("eth0", netip.PrefixFrom(own.V4, underlay4.Bits())),
		ns.addAddress("eth0", netip.PrefixFrom(own.V6, underlay6.Bits())),
		ns.addRoute(route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Link: "eth0", Via: gateway.V4}),
		ns.addRoute(route{To: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Link: "eth0", Via: gateway.V6}),
	); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

func (n *Network) newNode(number int) (*Node, error) {
	ns, err := n.attach(fmt.Sprintf("node-%d", number), nodeNumber+number)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		ns.Sysctl("net.ipv4.ip_forward", "1"),
		ns.Sysctl("net.ipv6.conf.all.forwarding", "1"),
	); err != nil {
		ns.Close()
		return nil, err
	}
	return &Node{Namespace: ns, Addresses: onUnderlay(nodeNumber + number), number: number, lastPod: 1}, nil
}

// joinPodRanges routes every node's pod ranges on all the others and on the underlay,
// where the API server is that pods talk to; it does not forward for the outside.
func (n *Network) joinPodRanges() error {
	var errs []error
	for _, to := range n.Nodes {
		errs = append(errs, to.routePodsFrom(n.Underlay, bridge))
		for _, from := range n.Nodes {
			if from != to {
				errs = append(errs, to.routePodsFrom(from.Namespace, "eth0"))
			}
		}
	}
	return errors.Join(errs...)
}

// routePodsFrom lets another machine reach this node's pods.
func (n *Node) routePodsFrom(from *Namespace, link string) error {
	v4, v6 := podRanges(n.number)
	return errors.Join(
		from.addRoute(route{To: v4, Link: link, Via: n.V4}),
		from.addRoute(route{To: v6, Link: link, Via: n.V6}),
	)
}

// Node finds a node by name.
func (n *Network) Node(name string) (*Node, error) {
	for _, node := range n.Nodes {
		if node.Name == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("node %s: not in this lab", name)
}

// Close gives up all namespaces.
func (n *Network) Close() {
	for _, node := range n.Nodes {
		node.Close()
	}
	for _, ns := range []*Namespace{n.Outside, n.Underlay} {
		if ns != nil {
			ns.Close()
		}
	}
}
