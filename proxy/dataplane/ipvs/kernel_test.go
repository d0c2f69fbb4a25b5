package ipvs

import (
	"os"
	"testing"

	"github.com/mooring-project/mooring/internal/testkit/netns"
)

// needKernel moves the test into a namespace of a kernel with IPVS, or ends it.
func needKernel(t testing.TB) {
	t.Helper()
	if err := Available(t.Context()); err != nil {
		if os.Getenv("MOORING_IPVS") == "required" {
			t.Fatal(err)
		}
		t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
	}
	netns.New(t).Enter()
}
