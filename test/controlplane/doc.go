// Package controlplane runs the real Kubernetes control plane as native
// processes for tests: etcd, kube-apiserver, kube-controller-manager and, when
// asked, kube-scheduler. There is no container and no image: Build makes the
// binaries from Go modules (the nested module in binaries/ pins them) and keeps
// them in the user's cache directory, Start runs them in a temporary directory.
//
// No kubelet runs. A test that needs endpoints plays kubelet itself: it binds
// a pod to a node and patches the pod's status with an address and Ready, and
// the endpointslice controller does the rest.
package controlplane
