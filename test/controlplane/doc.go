// Package controlplane runs the real Kubernetes control plane as native
// processes for tests: etcd, kube-apiserver, kube-controller-manager and, when
// asked, kube-scheduler. There is no container and no image: Build makes the
// binaries from Go modules (the nested module in binaries/ pins them) and keeps
// them in the user's cache directory, Start runs them in a temporary directory.
//
// No kubelet runs. A test that needs endpoints plays kubelet itself: it makes a
// Node, binds a pod to it and patches the pod's status with an address and
// Ready; the endpointslice controller does the rest. (It leaves out pods whose
// node does not exist.) Pods that are deleted stay, terminating, until the test
// deletes them again with a grace period of 0, as a kubelet does at the end.
package controlplane
