// Command dns measures mooring-dns against stock CoreDNS and against the floor, CoreDNS
// with nothing but whoami: processor time and queries per second for the usual questions,
// resident memory, and the time from an API write to the changed answer. All three see
// the same objects, served by an API server of this program; all traffic stays on the
// loopback interface. `make bench-dns` builds what it needs and runs it.
package main
