// Package lab builds a little cluster inside one kernel: two nodes, an outside
// client and pods are network namespaces, joined as a routed pod network joins
// them. A stand-in for the kubelet turns Pod objects into such namespaces with a
// real process inside, probes them and reports their status, either to a real API
// server or into a directory of manifests.
//
// Everything lives in a process, mount and network namespaces of its own (see
// Isolate), so that the end of the lab, however it comes, is the end of all
// processes, interfaces and mounts it made.
package lab
