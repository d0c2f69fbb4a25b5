package node

import (
	"os"
	"strings"
	"testing"
)

// TestTheDaemonSetOfKubeadm has kubeadm's own objects run mooring-proxy, with nothing but the image
// and the name of the program changed: its account, its ConfigMap and its flags.
func TestTheDaemonSetOfKubeadm(t *testing.T) {
	c := start(t, 1)
	objects, err := os.ReadFile("testdata/kubeadm/kube-proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const image, program = "registry.k8s.io/kube-proxy:v1.37.2", "/usr/local/bin/kube-proxy"
	for _, part := range []string{image, program} {
		if strings.Count(string(objects), part) != 1 {
			t.Fatalf("%q is not once in kubeadm's objects", part)
		}
	}
	c.apply(strings.NewReplacer(image, "localhost/mooring-proxy:dev", program, "/mooring-proxy").Replace(string(objects)))
	c.rollout("daemonset/kube-proxy")
	c.example("web.yaml")
	c.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	c.client("administrator", true)
	address := strings.TrimSpace(c.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"))
	c.says("administrator", "a Service is served", contains("web-"), "wget", "-qO-", "http://"+address)
	c.says("administrator", "by mooring-proxy", contains("mooring"), "sh", "-c", state)
}
