package node

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-project/mooring/test/controlplane"
)

// TestKind deploys to a cluster that has neither kube-proxy nor a DNS, as the README says, plays
// the story of one Service, and updates Mooring itself.
func TestKind(t *testing.T) {
	c := start(t, 1)
	c.readme("Put it into a cluster")
	c.rollout("daemonset/mooring-proxy")
	c.rollout("deployment/mooring-dns")
	nameAndAddress(c)
	fromOutside(c)
	l, since := c.startLoad()
	since = comeAndGo(c, l, since)
	since = updateItself(c, l, since)
	withoutPrivileges(c, l, since)
	rightsSuffice(c)
}

// readme runs what a section of the README says of kubectl; a machine of kind has what comes before.
func (c *cluster) readme(heading string) {
	c.t.Helper()
	steps, err := readRunbook(filepath.Join(c.source, "README.md"))
	if err != nil {
		c.t.Fatal(err)
	}
	ran := 0
	for _, s := range steps {
		for line := range strings.Lines(strings.Join(s.commands, "")) {
			if s.heading == heading && strings.HasPrefix(line, "kubectl ") {
				c.shell(heading, line)
				ran++
			}
		}
	}
	if ran == 0 {
		c.t.Fatalf("the README has no command of kubectl under %q", heading)
	}
}

// withoutPrivileges takes the init container away: on a node whose parameters are right NET_ADMIN is
// enough.
func withoutPrivileges(c *cluster, l *load, since report) {
	c.kubectl("-n", "kube-system", "patch", "daemonset", "mooring-proxy", "--type=json", "-p",
		`[{"op": "remove", "path": "/spec/template/spec/initContainers"}]`)
	c.rollout("daemonset/mooring-proxy")
	l.check("mooring-proxy without an init container", since)
}

// rightsSuffice looks at what the pods asked the API server for, under their accounts.
func rightsSuffice(c *cluster) {
	for _, account := range []string{"mooring-dns", "mooring-proxy"} {
		user := "system:serviceaccount:kube-system:" + account
		uses, err := c.trail.Uses(user)
		if err != nil {
			c.t.Fatal(err)
		}
		for use, refused := range uses {
			if refused {
				c.t.Errorf("%s was refused to %s", account, use)
			}
		}
		for _, needed := range []string{
			controlplane.Use("watch", "services", ""), controlplane.Use("watch", "endpointslices", "discovery.k8s.io"),
		} {
			if _, used := uses[needed]; !used {
				c.t.Errorf("%s never asked to %s; is it seen at all?", account, needed)
			}
		}
		for _, other := range []string{"get secrets", "list secrets", "list configmaps", "create pods", "update services", "delete endpointslices"} {
			// The exit status tells the same as the answer.
			if output, _ := c.tryKubectl(append([]string{"auth", "can-i", "--as=" + user}, strings.Fields(other)...)...); output != "no" {
				c.t.Errorf("may %s %s? %s", account, other, output)
			}
		}
	}
}
