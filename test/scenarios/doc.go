// Package scenarios proves what mooring-proxy does with the packets of Services.
//
// Each file of testdata holds ordinary manifests and a table of flows: who asks which
// address, who answers, and whether the answerer sees the asker's address or the node's.
// The same tables are run against the oracle, against plans (traced without a kernel), and
// with packets on a real kernel:
//
//	go test ./test/scenarios
//	MOORING_IPVS=required CGO_ENABLED=0 go test -exec "$PWD/test/vm/run" ./test/scenarios
//
// Three of the files are kube-proxy's table of internal and external traffic and
// masquerading (27 flows, 4 configurations). Random Services are compared with the oracle
// besides; MOORING_SEED repeats a run of them.
package scenarios
