// Package takeover has mooring-proxy take over from the kube-proxy of a Kubernetes release, in each
// of its modes, and give back, while connections of every kind are held and new ones made all
// the time: both proxies are processes that follow a real API server, on a real kernel.
//
// The tests prepare on the host and go on in the kernel machine. MOORING_TAKEOVER=1 has that of all
// modes run, MOORING_MODES names one mode, MOORING_SOAK=1 has it run in its long form.
package takeover
