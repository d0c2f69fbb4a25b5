package ipvs

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	moby "github.com/moby/ipvs"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a handle whose calls give the errors of a script, in order, and then
// succeed. A hang lasts until Close.
type scripted struct {
	handle
	closed chan struct{}

	// mu guards what follows: a call that hangs outlives the one who waited for it.
	mu     sync.Mutex
	script []error
	calls  []string
}

var errHang = errors.New("hang")

// next notes a call and gives the error its script has for it.
func (s *scripted) next(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
	if len(s.script) == 0 {
		return nil
	}
	err := s.script[0]
	s.script = s.script[1:]
	return err
}

func (s *scripted) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *scripted) call(name string) error {
	err := s.next(name)
	if errors.Is(err, errHang) {
		<-s.closed
		return errors.New("socket got closed on receive")
	}
	return err
}

func (s *scripted) NewService(*moby.Service) error    { return s.call("new service") }
func (s *scripted) UpdateService(*moby.Service) error { return s.call("update service") }
func (s *scripted) DelService(*moby.Service) error    { return s.call("delete service") }
func (s *scripted) NewDestination(*moby.Service, *moby.Destination) error {
	return s.call("new destination")
}

func (s *scripted) UpdateDestination(*moby.Service, *moby.Destination) error {
	return s.call("update destination")
}

func (s *scripted) DelDestination(*moby.Service, *moby.Destination) error {
	return s.call("delete destination")
}
func (s *scripted) Close() { close(s.closed) }

// table gives a Table whose sockets follow scripts, one each.
func table(t *testing.T, scripts ...[]error) (*Table, func() []string) {
	t.Helper()
	var opened []*scripted
	table, err := openMoby(func() (handle, error) {
		if len(opened) == len(scripts) {
			return nil, errors.New("no more sockets")
		}
		s := &scripted{script: scripts[len(opened)], closed: make(chan struct{})}
		opened = append(opened, s)
		return s, nil
	}, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table, func() []string {
		var calls []string
		for _, s := range opened {
			calls = append(calls, s.made()...)
		}
		return calls
	}
}

// do does one operation.
func do(ctx context.Context, table *Table, op plan.Op) error {
	return errors.Join(table.Do(ctx, op)...)
}

var (
	virtual = plan.Key{Kind: plan.VirtualServer, Protocol: model.TCP, Addr: netip.MustParseAddr("10.96.0.10"), Port: 80}
	real    = plan.Key{
		Kind: plan.RealServer, Protocol: model.TCP, Addr: virtual.Addr, Port: 80,
		Endpoint: netip.MustParseAddrPort("10.244.1.2:8080"),
	}
)

func TestDoMakesTheStateTheGoal(t *testing.T) {
	for name, test := range map[string]struct {
		op     plan.Op
		script []error
		calls  []string
		err    error
	}{
		"add of a new one": {plan.Op{Verb: plan.Add, Key: virtual}, nil, []string{"new service"}, nil},
		"add of an existing one updates": {
			plan.Op{Verb: plan.Add, Key: virtual},
			[]error{syscall.EEXIST},
			[]string{"new service", "update service"},
			nil,
		},
		"update of an absent one adds": {
			plan.Op{Verb: plan.Update, Key: virtual},
			[]error{syscall.ESRCH},
			[]string{"update service", "new service"},
			nil,
		},
		"delete of an absent one": {
			plan.Op{Verb: plan.Delete, Key: virtual},
			[]error{syscall.ESRCH},
			[]string{"delete service"},
			nil,
		},
		"scheduler without a module": {
			plan.Op{Verb: plan.Add, Key: virtual},
			[]error{syscall.ENOENT},
			[]string{"new service"},
			syscall.ENOENT,
		},
		"real server that exists": {
			plan.Op{Verb: plan.Add, Key: real},
			[]error{syscall.EEXIST},
			[]string{"new destination", "update destination"},
			nil,
		},
		"real server that is gone": {
			plan.Op{Verb: plan.Update, Key: real},
			[]error{syscall.ENOENT},
			[]string{"update destination", "new destination"},
			nil,
		},
		"real server without virtual server": {
			plan.Op{Verb: plan.Add, Key: real},
			[]error{syscall.ESRCH},
			[]string{"new destination"},
			ErrNoVirtualServer,
		},
		"delete of a real server without virtual server": {
			plan.Op{Verb: plan.Delete, Key: real},
			[]error{syscall.ESRCH},
			[]string{"delete destination"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			table, calls := table(t, test.script)
			if err := do(t.Context(), table, test.op); !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if got := calls(); !slices.Equal(got, test.calls) {
				t.Errorf("calls %v, want %v", got, test.calls)
			}
		})
	}
}

func TestWeightThatCannotBeReadBackIsRefused(t *testing.T) {
	table, calls := table(t, nil)
	err := do(t.Context(), table, plan.Op{Verb: plan.Add, Key: real, Value: plan.Value{Weight: 65536}})
	if err == nil || len(calls()) != 0 {
		t.Errorf("error %v, calls %v", err, calls())
	}
}

func TestLostAcknowledgementCostsOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, calls := table(t, []error{errHang}, nil)
		start := time.Now()
		err := do(t.Context(), table, plan.Op{Verb: plan.Add, Key: virtual})
		if !errors.Is(err, ErrTimeout) || time.Since(start) != time.Second {
			t.Errorf("error %v after %s, want a timeout after 1s", err, time.Since(start))
		}
		if err := do(t.Context(), table, plan.Op{Verb: plan.Delete, Key: virtual}); err != nil {
			t.Errorf("next call: %v", err)
		}
		if got := len(calls()); got != 2 {
			t.Errorf("%d calls, want 2 on two sockets", got)
		}
	})
}

func TestCancelledCallDoesNotWaitForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _ := table(t, []error{errHang}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		err := do(ctx, table, plan.Op{Verb: plan.Add, Key: virtual})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Millisecond {
			t.Errorf("error %v after %s", err, time.Since(start))
		}
	})
}

func TestSocketThatCannotBeReopenedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, _ := table(t, []error{errHang})
		for range 3 {
			if err := do(t.Context(), table, plan.Op{Verb: plan.Add, Key: virtual}); err == nil {
				t.Error("no error without a socket")
			}
		}
	})
}
