package proxy

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
)

// nobody is an API server that does not answer.
var nobody = []string{"--source=kubernetes", "--master=https://127.0.0.1:1", "--hostname-override=node-1"}

// keep writes what mooring-proxy kept, a minute ago, of the objects that the other tests have.
func keep(t *testing.T, path, address string) {
	t.Helper()
	command, err := config.Parse(nobody)
	if err != nil {
		t.Fatal(err)
	}
	server := sourceConfig(command.Config, slog.Default())
	cluster, err := server.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	snapshot := state.NewStore().Update(time.Now(), func(tx *state.Txn) {
		service := localService(30999, "10.96.0.10")
		service.Key, service.Ports = model.ServiceKey{Namespace: "default", Name: "web"}, []model.ServicePort{{Protocol: model.TCP, Port: 80}}
		tx.PutService(service)
		slice := localSlice(endpoint("10.244.1.2", "node-1", true, true, false))
		slice.Name, slice.Service = "web-1", service.Key
		slice.Ports = []model.EndpointPort{{Protocol: model.TCP, Port: 8080}}
		tx.PutSlice(slice)
		tx.PutNode(&model.Node{Name: "node-1", Addresses: []netip.Addr{netip.MustParseAddr(address)}})
	})
	if _, err := snapshotfile.Write(path, snapshotfile.Header{
		AsOf: time.Now().Add(-time.Minute), Addresses: []string{address},
		Identity: snapshotfile.Identity{Cluster: cluster, Selection: server.Extent(), Node: "node-1"},
	}, snapshot); err != nil {
		t.Fatal(err)
	}
}

func TestStartWithoutTheAPIServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	keep(t, path, "172.30.0.11")
	before, _ := os.ReadFile(path)
	n := startNode(t, objects, append(nobody, "--snapshot="+path)...)
	n.want("from disk", "10256/healthz", 200, "lastUpdated")
	n.want("from disk", "30999/", 200, `"localEndpoints": 1`)
	n.want("from disk", "10249/metrics", 200, "mooring_restored_age_seconds 6")
	if kernel := n.shell("ipvsadm -Sn"); !strings.Contains(kernel, "-a -t 10.96.0.10:80 -r 10.244.1.2:8080") {
		t.Errorf("the kernel holds\n%s", kernel)
	}
	n.stop()
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file was written without a sync")
	}
}

func TestAFileOfANodeWithAnotherAddressIsNotUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	keep(t, path, "172.30.0.12")
	n := startNode(t, objects, append(nobody, "--snapshot="+path)...)
	n.want("without a snapshot", "10249/metrics", 200, "mooring_restored_age_seconds 0")
	n.want("without a snapshot", "10249/metrics", 200, `mooring_source_failing{kind="services"} 1`)
	if kernel := n.shell("ipvsadm -Sn"); kernel != "" {
		t.Errorf("the kernel holds\n%s", kernel)
	}
}
