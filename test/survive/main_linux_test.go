package survive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/mooring-project/mooring/proxy"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
)

// childVariable has the test binary be mooring-proxy.
const childVariable = "MOORING_SURVIVE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// child does what cmd/mooring-proxy does.
func child(args []string) int {
	command, err := config.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	options := &slog.HandlerOptions{}
	if command.Config.Verbosity >= 4 {
		options.Level = slog.LevelDebug
	}
	if err := proxy.Do(ctx, command, slog.New(slog.NewTextHandler(os.Stderr, options)), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// needIPVS ends a test where the kernel has no IPVS: by a skip, or by a failure where the run is
// meant for such a kernel.
func needIPVS(t *testing.T) {
	t.Helper()
	err := ipvs.Available(t.Context())
	switch {
	case err == nil:
	case os.Getenv("MOORING_IPVS") == "required":
		t.Fatal(err)
	default:
		t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
	}
}

// soak tells whether the long forms are wanted.
func soak() bool { return os.Getenv("MOORING_SOAK") != "" }

// newRandom starts from MOORING_SEED, or from a seed that it logs.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("MOORING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MOORING_SEED: %v", err)
		}
	}
	t.Logf("repeat with MOORING_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}
