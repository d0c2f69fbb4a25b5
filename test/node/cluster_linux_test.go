package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/controlplane"
	"github.com/mooring-project/mooring/test/vm"
)

// nodeVariable asks for the tests that take many minutes: see `make test-node`.
const nodeVariable = "MOORING_NODE"

// TestMain prepares outside, where there is a network, and runs the tests inside.
func TestMain(m *testing.M) {
	if os.Getenv(nodeVariable) == "" || os.Getenv(insideVariable) != "" {
		os.Exit(m.Run())
	}
	status, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

func outside() (int, error) {
	directory, err := os.MkdirTemp("", "mooring-node-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(directory)
	source, err := filepath.Abs("../..")
	if err != nil {
		return 1, err
	}
	if err := prepare(context.Background(), source, directory, os.Stderr); err != nil {
		return 1, err
	}
	return isolate(directory)
}

// A cluster is a control plane with real nodes.
type cluster struct {
	t     *testing.T
	plane *controlplane.ControlPlane
	// kubeconfig is the administrator's, programs the directory of kubectl.
	kubeconfig, programs string
	sites                []site
	// source is the repository, where commands run.
	source string
	trail  *controlplane.Trail
}

// patience is how long pods may take to start on an emulated machine whose host has other work, and
// soon how long it may take until what they do is seen.
const (
	patience = 8 * time.Minute
	soon     = 3 * time.Minute
)

// start brings up a cluster with so many nodes, all of them ready.
func start(t *testing.T, nodes int) *cluster {
	t.Helper()
	directory := os.Getenv(insideVariable)
	if directory == "" {
		t.Skipf("brings up a real node, which takes many minutes; `make test-node` does (%s=1)", nodeVariable)
	}
	c := &cluster{t: t, source: filepath.Join("..", "..")}
	for number := 1; number <= nodes; number++ {
		c.sites = append(c.sites, siteOf(number))
	}
	if err := connect(c.sites); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disconnect(c.sites) })
	c.startPlane(directory)
	for _, s := range c.sites {
		c.apply(fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}, spec: {podCIDR: %s, podCIDRs: [%s]}}", s.name, s.pods, s.pods))
	}
	for _, s := range c.sites {
		c.startMachine(directory, s)
	}
	c.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout="+patience.String())
	return c
}

func (c *cluster) startPlane(directory string) {
	c.t.Helper()
	trail, err := controlplane.NewTrail(c.t.TempDir())
	if err != nil {
		c.t.Fatal(err)
	}
	c.trail = trail
	var users []controlplane.User
	for _, s := range c.sites {
		users = append(users, controlplane.User{Name: "system:node:" + s.name, Groups: []string{"system:nodes"}})
	}
	here := netip.MustParseAddr(gateway)
	plane, err := controlplane.Start(c.t.Context(), controlplane.Options{
		BindAddress: here, AdvertiseAddress: here, SecurePort: 6443, ExtraSANs: []string{"mooring-control-plane"},
		RealNodes: true, Scheduler: true, Users: users, Log: os.Stderr,
		APIServerFlags: append(trail.Flags, "--kubelet-preferred-address-types=InternalIP"),
		// An emulated machine under load is slow, not gone: without this its pods would count as not ready.
		ControllerManagerFlags: []string{"--node-monitor-grace-period=10m"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(plane.Stop)
	c.plane, c.kubeconfig, c.programs = plane, plane.Kubeconfig(), plane.BinDir()
}

// startMachine starts a node's machine, which runs until the end of the test. What its kubelet and
// containerd say is shown if the test fails.
func (c *cluster) startMachine(directory string, s site) {
	c.t.Helper()
	files := c.t.TempDir()
	kubeconfig := filepath.Join(files, s.name+".kubeconfig")
	if err := c.plane.WriteKubeconfig(kubeconfig, "", "system:node:"+s.name); err != nil {
		c.t.Fatal(err)
	}
	boot, err := guestFiles.ReadFile("guest/boot")
	if err != nil {
		c.t.Fatal(err)
	}
	script := filepath.Join(files, "boot")
	if err := os.WriteFile(script, boot, 0o755); err != nil {
		c.t.Fatal(err)
	}
	argv := []string{"/node/boot", s.name, s.address, s.pods, gateway}
	for _, other := range c.sites {
		if other != s {
			argv = append(argv, other.pods+"="+other.address)
		}
	}
	log, err := os.Create(c.logFile(s))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		defer log.Close()
		_, err := vm.Run(ctx, vm.Spec{
			Disk: filepath.Join(directory, diskFile), Tap: s.tap, MAC: s.mac, MemoryMiB: 3072, Timeout: 2 * time.Hour,
			Files: map[string]string{"/node/boot": script, "/node/kubeconfig": kubeconfig, "/node/ca.crt": c.plane.CAFile()},
			Argv:  argv, Stdout: log, Stderr: log,
		})
		if ctx.Err() == nil {
			c.t.Errorf("machine of %s ended: %v", s.name, err)
		}
	})
	c.t.Cleanup(func() {
		stop()
		ended.Wait()
	})
}

// logFile is where a machine's output goes: the directory MOORING_NODE_LOGS, if it is set.
func (c *cluster) logFile(s site) string {
	directory := os.Getenv("MOORING_NODE_LOGS")
	if directory == "" {
		directory = c.t.ArtifactDir()
	}
	return filepath.Join(directory, c.t.Name()+"-"+s.name+".log")
}

// command prepares a program that sees the cluster as its administrator does.
func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = c.source
	command.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "PATH="+c.programs+":"+os.Getenv("PATH"))
	return command
}

// kubectl runs kubectl in the repository, shows what it said, and fails the test if it failed.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	output, err := c.tryKubectl(args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	c.t.Logf("$ kubectl %s\n%s", strings.Join(args, " "), output)
	return output
}

func (c *cluster) tryKubectl(args ...string) (string, error) {
	return c.run(nil, args...)
}

func (c *cluster) run(input io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	command := c.command(ctx, filepath.Join(c.programs, controlplane.Kubectl), args...)
	command.Stdin = input
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	return strings.TrimSpace(output.String()), err
}

// shell runs commands of a document as their reader would, with the first node as NODE.
func (c *cluster) shell(heading, commands string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*patience)
	defer cancel()
	command := c.command(ctx, "bash", "-euo", "pipefail", "-c", commands)
	command.Env = append(command.Env, "NODE="+c.sites[0].name)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	c.t.Logf("%s\n%s\n%s", heading, commands, output.String())
	if err != nil {
		c.t.Fatalf("%s: %v", heading, err)
	}
}

// apply creates or changes the objects of a YAML text.
func (c *cluster) apply(text string) {
	c.t.Helper()
	if output, err := c.run(strings.NewReader(text), "apply", "-f", "-"); err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s\n%s", err, output, text)
	}
}

// ip configures this side of the bridge.
func (c *cluster) ip(args ...string) {
	c.t.Helper()
	if output, err := exec.CommandContext(c.t.Context(), "ip", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

// eventually repeats a check until it succeeds.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	deadline := time.After(soon)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			c.t.Log("ok: " + what)
			return
		}
		select {
		case <-deadline:
			c.t.Fatalf("%s: not within %s: %v", what, soon, err)
		case <-ticker.C:
		}
	}
}
