// Package peers runs mooring-proxy and the kube-proxy of a Kubernetes release side by side:
// the same API server, the same objects, the same configuration file but for its mode, each in
// a network namespace of its own on the kernel machine.
//
// The host's half (Prepare) has the API server and the programs; the machine's half (Start)
// has the proxies, which reach that server on their own loopback address.
package peers
