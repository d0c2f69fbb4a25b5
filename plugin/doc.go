// Package mooring is a CoreDNS plugin that answers the names of Kubernetes Services
// from watched objects, as the Kubernetes DNS specification 1.1.0 describes them.
//
// It takes the place of the stock plugin kubernetes: the directive mooring understands
// the same configuration. The answer to a query is a pure function of one snapshot of
// the cluster, the question and the configuration; so all records of one answer belong
// to one state of the cluster, and no lock is taken on the way.
//
// The files name.go, place.go, answer.go and those named answer_*.go compute and do
// nothing else: no I/O, no clock, no logger. What talks to the world is in setup.go,
// source.go and handler.go.
package mooring
