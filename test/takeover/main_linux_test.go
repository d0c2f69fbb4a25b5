package takeover

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/mooring-project/mooring/test/peers"
	"github.com/mooring-project/mooring/test/vm"
)

// wanted is the variable that has the tests of this package run.
const wanted = "MOORING_TAKEOVER"

// onHost runs a test of this package in the kernel machine, where it is to go on, and is true then.
func onHost(t *testing.T) bool {
	t.Helper()
	if os.Getenv(peers.UpstreamVariable) != "" {
		return false
	}
	if os.Getenv(wanted) == "" {
		t.Skipf("takes many minutes; `make test-takeover` runs it (%s=1)", wanted)
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
		Env:    []string{"CI=" + os.Getenv("CI"), "MOORING_SOAK=" + os.Getenv("MOORING_SOAK"), "MOORING_MODES=" + os.Getenv("MOORING_MODES")},
		Stdout: t.Output(), Stderr: t.Output(), Timeout: 25 * time.Minute,
	}))
	if err != nil || status != 0 {
		t.Fatalf("status %d in the machine, error %v", status, err)
	}
	return true
}

// soak tells whether the long form is wanted.
func soak() bool { return os.Getenv("MOORING_SOAK") != "" }
