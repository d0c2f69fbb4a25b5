package snapshotfile

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// large is a cluster as the sources make it: few names of nodes and zones, many of pods.
func large(services, endpoints int) *state.Snapshot {
	const perSlice = 100
	store := state.NewIndexedStore()
	return store.Update(time.Now(), func(tx *state.Txn) {
		for i := range services {
			key := model.ServiceKey{Namespace: fmt.Sprint("namespace-", i%200), Name: fmt.Sprint("service-", i)}
			tx.PutNamespace(&model.Namespace{Name: key.Namespace})
			tx.PutService(&model.Service{
				Key: key, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, Selector: "app=" + key.Name,
				Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
			})
			for first := 0; first < endpoints; first += perSlice {
				slice := &model.EndpointSlice{
					Name: fmt.Sprintf("%s-%05x", key.Name, first*7919+i), Service: key,
					Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}},
				}
				for e := first; e < min(endpoints, first+perSlice); e++ {
					n := i*endpoints + e
					slice.Endpoints = append(slice.Endpoints, model.Endpoint{
						Addr: netip.AddrFrom4([4]byte{10, byte(128 + n>>16), byte(n >> 8), byte(n)}), Ready: true, Serving: true,
						About: &model.About{
							TargetPod: fmt.Sprintf("%s-5d4f8c7b9-%05x", key.Name, uint32(n)*2654435761>>12),
							Node:      fmt.Sprint("node-", n%500), Zone: fmt.Sprint("zone-", n%3),
						},
					})
				}
				tx.PutSlice(slice)
			}
		}
		tx.SetSynced()
	})
}

var sizes = []struct {
	name                string
	services, endpoints int
}{{"10000x5", 10000, 5}, {"1x150000", 1, 150000}}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// peak gives the most that do adds to the heap.
func peak(do func()) uint64 {
	before := heap()
	var most uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			most = max(most, stats.HeapAlloc)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	<-done
	return most - min(most, before)
}

func BenchmarkEncode(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			before := heap()
			snapshot := large(size.services, size.endpoints)
			whole := heap() - before
			for b.Loop() {
				if err := Encode(io.Discard, Header{}, snapshot); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(peak(func() { _ = Encode(io.Discard, Header{}, snapshot) }))/1e6, "MB-peak")
			b.ReportMetric(float64(whole)/1e6, "MB-snapshot")
			b.ReportMetric(float64(len(encoded(b, snapshot))), "octets")
			runtime.KeepAlive(snapshot)
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, size := range sizes {
		octets := encoded(b, large(size.services, size.endpoints))
		b.Run(size.name, func(b *testing.B) {
			restore := func() {
				contents, err := Decode(bytes.NewReader(octets))
				if err != nil {
					b.Fatal(err)
				}
				state.NewIndexedStore().Restore(asOf, asOf, contents.Fill)
			}
			for b.Loop() {
				restore()
			}
			b.ReportMetric(float64(peak(restore))/1e6, "MB-peak")
		})
	}
}
