package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runbook is the document whose commands TestMigration runs.
const runbook = "../../docs/migration.md"

// TestMigration goes from kube-proxy and CoreDNS, as kubeadm installs them, to Mooring and back, by
// the commands of docs/migration.md and under load.
func TestMigration(t *testing.T) {
	steps, err := readRunbook(runbook)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, 1)
	for _, file := range []string{"kube-proxy.yaml", "coredns.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata/kubeadm", file))
		if err != nil {
			t.Fatal(err)
		}
		c.apply(string(text))
	}
	c.rollout("daemonset/kube-proxy")
	c.rollout("deployment/coredns")
	c.example("web.yaml")
	c.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	c.client("administrator", true)
	l, since := c.startLoad()
	trial(c)
	since = l.check("kube-proxy, and a trial beside it", since)
	for _, s := range steps {
		for _, block := range s.commands {
			c.shell(s.heading, block)
		}
		since = l.check(s.heading, since)
		if check, exists := afterStep[s.heading]; exists {
			check(c)
		}
	}
	for heading := range afterStep {
		if !hasStep(steps, heading) {
			t.Errorf("no step %q in %s, which a check is for", heading, runbook)
		}
	}
}

// The runbook can be read in every run; TestMigration runs its commands.
func TestRunbookHasItsSteps(t *testing.T) {
	steps, err := readRunbook(runbook)
	if err != nil {
		t.Fatal(err)
	}
	for heading := range afterStep {
		if !hasStep(steps, heading) {
			t.Errorf("no step %q, which a check of TestMigration is for", heading)
		}
	}
}

// trial has mooring-proxy serve one Service beside kube-proxy, and go again.
func trial(c *cluster) {
	c.kubectl("apply", "-k", "deploy/overlays/trial")
	c.rollout("daemonset/mooring-proxy")
	c.apply(`{apiVersion: v1, kind: Service, metadata: {name: tried, labels: {service.kubernetes.io/service-proxy-name: mooring}},
	  spec: {clusterIP: 10.96.200.1, selector: {app: web}, ports: [{port: 80}]}}`)
	c.says("administrator", "the Service of the trial is served", contains("web-"), "wget", "-qO-", "http://10.96.200.1")
	// A change of kube-proxy's own, with which it looks at all virtual servers.
	c.apply(`{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.100.1, selector: {app: web}, ports: [{port: 80}]}}`)
	c.says("administrator", "kube-proxy serves another", contains("web-"), "wget", "-qO-", "http://10.96.100.1")
	c.says("administrator", "the Service of the trial still is", contains("web-"), "wget", "-qO-", "http://10.96.200.1")
	c.kubectl("delete", "service", "tried", "other")
	c.kubectl("delete", "-k", "deploy/overlays/trial")
	c.cleanup()
	c.says("administrator", "nothing of the trial is left", lacks("mooring", "10.96.200.1"), "sh", "-c", state)
}

// cleanup removes mooring-proxy's part from the kernel of the first node.
func (c *cluster) cleanup() {
	c.t.Helper()
	c.apply(fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: cleanup, namespace: kube-system}, spec: {hostNetwork: true, restartPolicy: OnFailure,
	  nodeName: %s, containers: [{name: cleanup, image: "localhost/mooring-proxy:dev", args: [cleanup],
	  securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}}}]}}`, c.sites[0].name))
	c.kubectl("-n", "kube-system", "wait", "pod/cleanup", "--for=jsonpath={.status.phase}=Succeeded", "--timeout="+patience.String())
	c.kubectl("-n", "kube-system", "delete", "pod", "cleanup")
}

// afterStep are what is to be seen on the node besides that clients are served.
var afterStep = map[string]func(*cluster){
	"3. Change one node over": func(c *cluster) {
		c.says("administrator", "nothing of kube-proxy's is on the node", lacks("kube-ipvs0", "KUBE-SERVICES"), "sh", "-c", state)
		c.says("administrator", "what is on the node is mooring-proxy's", contains("mooring"), "sh", "-c", state)
	},
	"5. Finish: every node, new ones too, and the DNS": func(c *cluster) {
		c.eventually("the DNS is mooring-dns's alone", func() error {
			output, err := c.tryKubectl("-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o", "name")
			if err != nil || strings.Contains(output, "/coredns") || !strings.Contains(output, "/mooring-dns") {
				return fmt.Errorf("pods %s", got(output, err))
			}
			return nil
		})
	},
	"Back 4. Remove what is left of the objects": func(c *cluster) {
		c.says("administrator", "kube-proxy serves the node as before", contains("kube-ipvs0"), "sh", "-c", state)
		c.says("administrator", "nothing of mooring-proxy's is left", lacks("mooring"), "sh", "-c", state)
		if output := c.kubectl("get", "all,clusterrole,configmap", "-A", "-o", "name"); strings.Contains(output, "mooring") {
			c.t.Errorf("objects are left: %s", output)
		}
	},
}

// state shows what proxies leave on a node.
const state = "ip -brief link; ip rule; nft list tables; nft list chains; ipvsadm -Ln"

func lacks(parts ...string) func(string) bool {
	return func(output string) bool {
		for _, part := range parts {
			if strings.Contains(output, part) {
				return false
			}
		}
		return true
	}
}

func hasStep(steps []step, heading string) bool {
	for _, s := range steps {
		if s.heading == heading {
			return true
		}
	}
	return false
}
