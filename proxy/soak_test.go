package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
	"github.com/mooring-project/mooring/proxy/metrics"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// TestMemoryGoroutinesAndFilesStayLevel makes 20,000 changes, a million with MOORING_SOAK=1, to a mooring-proxy
// without a source whose kernel is in memory and whose time is fake, and compares what it takes
// after a quarter of them and at their end, both times without any Service.
func TestMemoryGoroutinesAndFilesStayLevel(t *testing.T) {
	changes := 20_000
	if os.Getenv("MOORING_SOAK") != "" {
		changes = 1_000_000
	}
	if testing.Short() {
		t.Skip("a few thousand changes are not enough for maps to have their final size; run without -short")
	}
	seed := rand.Uint64()
	if text := os.Getenv("MOORING_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("MOORING_SEED: %v", err)
		}
	}
	t.Logf("repeat with MOORING_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		s := startSoaked(t, rand.New(rand.NewPCG(seed, seed)))
		s.change(changes / 4)
		early := s.measure()
		s.change(changes - changes/4)
		late := s.measure()
		t.Logf("%d changes, %d endpoints left; after a quarter %+v, at the end %+v", changes, s.left, early, late)
		if late.heap > early.heap+early.heap/10+256<<10 {
			t.Errorf("the heap has grown from %d to %d octets", early.heap, late.heap)
		}
		if late.goroutines != early.goroutines || late.files != early.files || late.series > early.series+early.series/20 {
			t.Errorf("from %+v to %+v", early, late)
		}
		if s.left == 0 {
			t.Error("no endpoint was ever drained")
		}
	})
}

// soaked is a mooring-proxy that changes happen to.
type soaked struct {
	t       *testing.T
	random  *rand.Rand
	store   *state.Store
	kernel  *fake.Dataplane
	loop    *reconcile.Reconciler
	handler http.Handler
	present map[int]bool
	left    int
}

func startSoaked(t *testing.T, random *rand.Rand) *soaked {
	s := &soaked{t: t, random: random, store: state.NewStore(), kernel: &fake.Dataplane{}, present: make(map[int]bool)}
	logger, directory := slog.New(slog.DiscardHandler), t.TempDir()
	counted := newFailures(s.kernel)
	keeper := &snapshotfile.Keeper{
		Path: filepath.Join(directory, "snapshot"), Accept: snapshotfile.Acceptance{MaxAge: 24 * time.Hour}, Contact: time.Now, Logger: logger,
	}
	measured := metrics.New(metrics.Sources{
		Store: s.store, Status: func() reconcile.Status { return s.loop.Status() }, Freshness: func() []watch.KindStatus { return nil },
		Drains: func() reconcile.Drains { return s.loop.Drains() }, Failures: counted.Counts, Conntrack: readConntrack, Disk: keeper.Status,
		Node: "node-1", Families: []string{"IPv4"},
	})
	s.loop = reconcile.New(reconcile.Options{
		Store: s.store, Dataplane: counted, Logger: logger, DrainTimeout: 20 * time.Second, AuditPeriod: 10 * time.Minute,
		Drains: newDrainFile(filepath.Join(directory, "drains.json"), "node-1"), Context: plan.Context{Place: policy.Place{Node: "node-1"}, Scheduler: "rr", LocalhostNodePorts: true},
		Observe: func(r reconcile.Round) { s.left += len(r.Left); measured.Observe(r) },
	})
	s.handler = measured.Handler(metrics.About{Drains: serveDrains(s.loop.Drains)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.loop.Run(ctx) })
	running.Go(func() { keeper.Run(ctx, s.store) })
	t.Cleanup(func() { cancel(); running.Wait() })
	s.store.Update(time.Now(), func(tx *state.Txn) { tx.SetSynced() })
	return s
}

const (
	soakServices  = 200
	soakEndpoints = 6
)

func soakService(i int) *model.Service {
	service := localService(0, fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250))
	service.Key.Name = fmt.Sprintf("service-%d", i)
	if i%3 == 0 {
		service.ExternalTrafficPolicy = model.Cluster
	}
	for p := range service.Ports {
		service.Ports[p].NodePort = uint16(30000 + 1000*p + i)
	}
	return service
}

// change makes so many changes, and lets time go by.
func (s *soaked) change(changes int) {
	for range changes {
		i := s.random.IntN(soakServices)
		service := soakService(i)
		s.store.Update(time.Now(), func(tx *state.Txn) {
			if s.present[i] && s.random.IntN(10) == 0 {
				s.remove(tx, i)
				return
			}
			s.present[i] = true
			tx.PutService(service)
			tx.PutSlice(s.slice(service, i))
		})
		if s.random.IntN(4) == 0 {
			time.Sleep(time.Duration(s.random.Int64N(int64(time.Second))))
			synctest.Wait()
		}
	}
}

func (s *soaked) remove(tx *state.Txn, i int) {
	service := soakService(i)
	tx.DeleteService(service.Key)
	tx.DeleteSlice(service.Key.Namespace, service.Key.Name)
	delete(s.present, i)
}

// slice has some endpoints, each with some connections or none.
func (s *soaked) slice(service *model.Service, i int) *model.EndpointSlice {
	slice := localSlice()
	slice.Name, slice.Service = service.Key.Name, service.Key
	for e := range soakEndpoints {
		address := fmt.Sprintf("10.244.%d.%d", i%250, 1+e+10*s.random.IntN(3))
		if s.random.IntN(2) == 0 {
			slice.Endpoints = append(slice.Endpoints, endpoint(address, fmt.Sprintf("node-%d", e%2+1), true, true, false))
		}
		server := plan.Key{
			Kind: plan.RealServer, Protocol: model.TCP, Addr: service.ClusterIPs[0], Port: 80,
			Endpoint: netip.AddrPortFrom(netip.MustParseAddr(address), 8080),
		}
		s.kernel.SetConnections(server, uint32(s.random.IntN(2)))
	}
	return slice
}

// taken is what a process takes at some time.
type taken struct {
	heap              uint64
	goroutines, files int
	series            int
}

// measure takes all Services away and waits until nothing is left of them.
func (s *soaked) measure() taken {
	s.t.Helper()
	s.store.Update(time.Now(), func(tx *state.Txn) {
		for i := range s.present {
			s.remove(tx, i)
		}
	})
	time.Sleep(time.Hour)
	synctest.Wait()
	observed, err := s.kernel.Observe(s.t.Context())
	if err != nil || len(observed) > 0 || len(s.loop.Drains().Leaving) > 0 {
		s.t.Fatalf("an hour after the last Service: error %v, %d leaving, the kernel holds\n%s", err, len(s.loop.Drains().Leaving), observed)
	}
	recorder := httptest.NewRecorder()
	s.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.t.Skip("needs /proc/self/fd:", err)
	}
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return taken{memory.HeapAlloc, runtime.NumGoroutine(), len(files), strings.Count(recorder.Body.String(), "\n")}
}
