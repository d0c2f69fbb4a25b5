package proxy

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

var leavingServer = plan.Key{
	Kind: plan.RealServer, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 80,
	Endpoint: netip.MustParseAddrPort("10.244.1.2:8080"),
}

func leavingLedger() *drain.Ledger {
	ledger := drain.NewLedger(time.Minute)
	ledger.Decide(leavingServer, plan.Value{Weight: 1}, true, plan.Value{}, false, time.Now())
	return ledger
}

func TestDrainFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mooring", "drains.json")
	file := drainFile{path, "node-1", uptime}
	if memory, err := file.Load(); err != nil || memory.Len() != 0 {
		t.Errorf("no file: %v, %v", memory, err)
	}
	if err := file.Save(leavingLedger().Memory()); err != nil {
		t.Fatal(err)
	}
	if memory, err := file.Load(); err != nil || memory.Len() != 1 {
		t.Errorf("saved: %v, %v", memory, err)
	}
	if _, err := (drainFile{path, "node-2", uptime}).Load(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("of another node: error %v, want one that names the file", err)
	}
	earlier := drainFile{path, "node-1", func() (time.Duration, error) { return 0, nil }}
	if memory, err := earlier.Load(); err != nil || memory.Len() != 0 {
		t.Errorf("of an earlier start of the machine: %v, %v", memory, err)
	}
	if err := os.WriteFile(path, []byte(`{"version":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Load(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: error %v", err)
	}
	if err := (drainFile{filepath.Join(path, "below-a-file"), "node-1", uptime}).Save(drain.Memory{}); err == nil {
		t.Error("saved where nothing can be")
	}
}

func TestDrainsPage(t *testing.T) {
	since := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	entry := reconcile.Leaving{Service: model.ServiceKey{Namespace: "default", Name: "web"}}
	entry.Key, entry.Leaving = leavingServer, drain.Leaving{Since: since, Deadline: since.Add(time.Minute), Connections: 3}
	recorder := httptest.NewRecorder()
	serveDrains(func() reconcile.Drains {
		return reconcile.Drains{
			Leaving: []reconcile.Leaving{entry},
			Left:    []reconcile.Left{{Finished: drain.Finished{Key: leavingServer, Since: since, Cut: 2}, At: since.Add(time.Minute)}},
		}
	})(recorder, nil)
	const want = `{
  "leaving": [
    {
      "service": "default/web",
      "virtualServer": "tcp 10.96.0.10:80",
      "endpoint": "10.244.1.2:8080",
      "since": "2026-11-28T12:00:00Z",
      "deadline": "2026-11-28T12:01:00Z",
      "connections": 3
    }
  ],
  "left": [
    {
      "virtualServer": "tcp 10.96.0.10:80",
      "endpoint": "10.244.1.2:8080",
      "since": "2026-11-28T12:00:00Z",
      "left": "2026-11-28T12:01:00Z",
      "outcome": "cut",
      "cut": 2
    }
  ]
}
`
	if diff := cmp.Diff(want, recorder.Body.String()); diff != "" {
		t.Errorf("/drains (-want +got):\n%s", diff)
	}
}
