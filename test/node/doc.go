// Package node brings up a cluster with a real node: kubelet, containerd and runc in the kernel
// machine of test/vm, joined to the control plane of test/controlplane, with our images imported
// and deploy/ applied as the README says.
//
// Outside, where there may be a network, everything is built and put on one disk; then the test
// runs itself again in a network namespace of its own, where control plane, machine and outside
// clients meet on a bridge.
package node
