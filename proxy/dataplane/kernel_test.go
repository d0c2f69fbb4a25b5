package dataplane_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/contract"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const callTimeout = 10 * time.Second

// needIPVS ends a test where the kernel has no IPVS: by a skip, or by a failure where the
// run is meant for such a kernel (make test-kernel says so).
func needIPVS(t testing.TB) {
	t.Helper()
	err := ipvs.Available(t.Context())
	if err == nil {
		return
	}
	if os.Getenv("MOORING_IPVS") == "required" {
		t.Fatal(err)
	}
	t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
}

// open opens the data plane of the calling thread's namespace.
func open(t testing.TB) *dataplane.Kernel {
	t.Helper()
	return openBy(t, false)
}

func openBy(t testing.TB, moby bool) *dataplane.Kernel {
	t.Helper()
	kernel, err := dataplane.Open(dataplane.Options{IPv4: true, IPv6: true, RandomFully: true, Moby: moby, Logger: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close() })
	return kernel
}

// ways are those to IPVS; each has to pass the contract, and reads what the other has written.
var ways = []struct {
	name  string
	moby  bool
	other func(time.Duration, *slog.Logger) (*ipvs.Table, error)
}{
	{"many at once", false, ipvs.OpenMoby},
	{"one by one", true, ipvs.Open},
}

func TestContract(t *testing.T) {
	needIPVS(t)
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			contract.Test(t, func(t *testing.T) contract.Fixture {
				netns.New(t).Enter()
				kernel := openBy(t, way.moby)
				table, err := way.other(callTimeout, slog.Default())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(table.Close)
				return contract.Fixture{
					Dataplane: kernel,
					Foreign:   func(op plan.Op) error { return errors.Join(table.Do(t.Context(), op)...) },
					Servers:   func() (plan.Plan, error) { return table.VirtualServers(t.Context()) },
				}
			})
		})
	}
}
