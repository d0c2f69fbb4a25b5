package takeover

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/vm"
)

// onHost runs a test of this package in the kernel machine, where it is to go on, and is true then.
func onHost(t *testing.T) bool {
	t.Helper()
	if os.Getenv(peers.UpstreamVariable) != "" {
		return false
	}
	if testing.Short() {
		t.Skip("the kernel machine and kube-proxy take minutes the first time; run without -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	h, err := peers.Prepare(ctx, t.Output(), "./test/takeover_test")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	status, err := vm.Run(ctx, h.Spec(vm.Spec{
		Argv:   []string{peers.Dir + "/takeover_test", "-test.run=^" + t.Name() + "$", "-test.v"},
		Env:    environment("CI", "MOORING_TAKEOVER", "MOORING_SOAK", "MOORING_MODES"),
		Stdout: t.Output(), Stderr: t.Output(), Timeout: 25 * time.Minute,
	}))
	if err != nil || status != 0 {
		t.Fatalf("status %d in the machine, error %v", status, err)
	}
	return true
}

// environment gives variables as they are here.
func environment(names ...string) (list []string) {
	for _, name := range names {
		list = append(list, name+"="+os.Getenv(name))
	}
	return list
}

// modes are kube-proxy's that are to be taken over from.
func modes() []peers.Subject {
	all := []peers.Subject{peers.KubeProxyIPVS, peers.KubeProxyIPTables, peers.KubeProxyNFTables}
	return slices.DeleteFunc(all, func(s peers.Subject) bool { return !strings.HasSuffix(string(s), os.Getenv("MOORING_MODES")) })
}

// soak tells whether the long form is wanted.
func soak() bool { return os.Getenv("MOORING_SOAK") != "" }
