package ipvs

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/plan"
)

// needKernel moves the test into a namespace of a kernel with IPVS, or ends it.
func needKernel(t testing.TB) *netns.Namespace {
	t.Helper()
	if err := Available(t.Context()); err != nil {
		if os.Getenv("MOORING_IPVS") == "required" {
			t.Fatal(err)
		}
		t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
	}
	namespace := netns.New(t)
	namespace.Enter()
	return namespace
}

// TestCountersOfTheKernel has one connection pass, and both ways to the kernel tell the same of it.
func TestCountersOfTheKernel(t *testing.T) {
	namespace := needKernel(t)
	for _, prefix := range []string{"10.96.0.10/32", "10.244.1.2/32"} {
		namespace.Address("lo", netip.MustParsePrefix(prefix))
	}
	listener, err := net.Listen("tcp", real.Endpoint.String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	table, err := Open(10*time.Second, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if err := errors.Join(table.Do(t.Context(), servers(plan.Add, 0)[0], plan.Op{Verb: plan.Add, Key: real, Value: plan.Value{Weight: 1}})...); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(virtual.Addr, virtual.Port).String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	moby, err := OpenMoby(10*time.Second, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer moby.Close()
	for name, table := range map[string]*Table{"many at once": table, "one by one": moby} {
		var got Connections
		// The kernel adds the counts of its processors up every two seconds.
		for deadline := time.Now().Add(30 * time.Second); got.Counters.Connections == 0 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			_, holds, err := table.RealServers(t.Context(), virtual)
			if err != nil {
				t.Fatal(err)
			}
			got = holds[real]
		}
		if got.Active != 1 || got.Counters.Connections != 1 || got.Counters.PacketsIn < 2 || got.Counters.BytesIn < 80 || got.Counters.BytesOut < 40 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
