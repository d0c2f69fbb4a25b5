package proxy

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobodysID is of a user without any rights, netAdmin the number of CAP_NET_ADMIN
// (include/uapi/linux/capability.h).
const (
	nobodysID = 65534
	netAdmin  = 12
)

const backend = `
---
apiVersion: v1
kind: Service
metadata: {name: here, namespace: default}
spec: {clusterIP: 10.96.0.20, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: here-1, namespace: default, labels: {kubernetes.io/service-name: here}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.244.1.9], nodeName: node-1}]
`

// TestOneCapabilityIsEnough runs mooring-proxy as a user that may nothing but administer the
// network, after --init-only by root: a Service is served, and is gone when it is removed.
func TestOneCapabilityIsEnough(t *testing.T) {
	n := newNode(t, objects+backend)
	n.pod("10.244.1.9")
	if err := os.Chmod(filepath.Dir(filepath.Dir(n.manifests)), 0o755); err != nil { // testing has made it for root alone
		t.Fatal(err)
	}
	prepare := n.command("--init-only")
	prepare.Stderr = t.Output()
	n.namespace.Do(func() {
		if err := prepare.Run(); err != nil {
			t.Fatal(err)
		}
	})
	n.process = n.command()
	n.process.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobodysID, Gid: nobodysID}, AmbientCaps: []uintptr{netAdmin},
	}
	n.start()
	n.want("started", "10256/healthz", 200, "lastUpdated")
	if status := n.shell("grep -E '^(Uid|CapEff)' /proc/" + n.pid() + "/status"); !strings.Contains(status, "65534") || !strings.Contains(status, "CapEff:\t0000000000001000") {
		t.Fatalf("it runs with other rights: %s", status)
	}
	if err := n.dial("10.96.0.20:80"); err != nil {
		t.Errorf("the Service: %v", err)
	}
	n.write(objects)
	// What the first connection has left behind drains; nobody new gets in.
	for deadline := time.Now().Add(time.Minute); n.dial("10.96.0.20:80") == nil; time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("the removed Service is still served:\n%s", n.kernel())
		}
	}
}
