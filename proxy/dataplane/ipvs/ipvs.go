// Package ipvs keeps the virtual and real servers of the kernel's IPVS.
//
// It promises that no call blocks longer than its deadline: github.com/moby/ipvs
// waits for a lost acknowledgement for ever, so each call runs on a goroutine, and
// a socket whose call did not end in time is closed (which ends that goroutine) and
// replaced. It never touches what it was not told to touch, and keeps no state
// besides the socket.
//
// The socket belongs to the network namespace of the thread that called Open; a
// replacement to that of the thread that called the failing method. A Table is not
// safe for concurrent use.
package ipvs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	moby "github.com/moby/ipvs"
)

// ErrTimeout is wrapped by the error of a call that the kernel did not acknowledge
// in time. Whether it took effect is not known.
var ErrTimeout = errors.New("no acknowledgement from the kernel")

// ErrNoVirtualServer is wrapped by the error of an operation on a real server whose
// virtual server does not exist.
var ErrNoVirtualServer = errors.New("no such virtual server")

// handle is what a Table needs of github.com/moby/ipvs.
type handle interface {
	GetServices() ([]*moby.Service, error)
	NewService(*moby.Service) error
	UpdateService(*moby.Service) error
	DelService(*moby.Service) error
	GetDestinations(*moby.Service) ([]*moby.Destination, error)
	NewDestination(*moby.Service, *moby.Destination) error
	UpdateDestination(*moby.Service, *moby.Destination) error
	DelDestination(*moby.Service, *moby.Destination) error
	SetConfig(*moby.Config) error
	Close()
}

// Table is the kernel's table of virtual servers.
type Table struct {
	dial    func() (handle, error)
	timeout time.Duration
	logger  *slog.Logger
	handle  handle
}

// Open opens the socket. The kernel must have the generic netlink family IPVS
// already: see Available. Each later call may take timeout.
func Open(timeout time.Duration, logger *slog.Logger) (*Table, error) {
	return open(func() (handle, error) { return moby.New("") }, timeout, logger)
}

func open(dial func() (handle, error), timeout time.Duration, logger *slog.Logger) (*Table, error) {
	t := &Table{dial: dial, timeout: timeout, logger: logger}
	h, err := dial()
	if err != nil {
		return nil, fmt.Errorf("ipvs socket: %w", err)
	}
	t.handle = h
	return t, nil
}

// Close closes the socket.
func (t *Table) Close() {
	if t.handle != nil {
		t.handle.Close()
		t.handle = nil
	}
}

// SetTimeouts sets the idle timeouts of the network namespace's connections; zero
// leaves one as it is.
func (t *Table) SetTimeouts(ctx context.Context, tcp, tcpFin, udp time.Duration) error {
	if tcp == 0 && tcpFin == 0 && udp == 0 {
		return nil
	}
	config := &moby.Config{TimeoutTCP: tcp, TimeoutTCPFin: tcpFin, TimeoutUDP: udp}
	return t.do(ctx, func(h handle) error { return h.SetConfig(config) })
}

// do makes one call within the deadline.
func (t *Table) do(ctx context.Context, call func(handle) error) error {
	_, err := get(ctx, t, func(h handle) (struct{}, error) { return struct{}{}, call(h) })
	return err
}

// get makes one call within the deadline and gives its result. The goroutine that
// waits hands its result over a buffered channel, so that nobody has to take it.
func get[T any](ctx context.Context, t *Table, call func(handle) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := t.reopen(); err != nil {
		return none, err
	}
	h, done := t.handle, make(chan result, 1)
	go func() {
		value, err := call(h)
		done <- result{value, err}
	}()
	timer := time.NewTimer(t.timeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		t.abandon()
		return none, fmt.Errorf("%w after %s", ErrTimeout, t.timeout)
	case <-ctx.Done():
		t.abandon()
		return none, ctx.Err()
	}
}

// abandon gives up the socket a call is stuck on. Closing it makes the call return.
func (t *Table) abandon() {
	t.logger.Warn("ipvs: call not acknowledged, opening a new socket", "timeout", t.timeout)
	t.Close()
}

func (t *Table) reopen() error {
	if t.handle != nil {
		return nil
	}
	h, err := t.dial()
	if err != nil {
		return fmt.Errorf("ipvs socket: %w", err)
	}
	t.handle = h
	return nil
}

// is tells whether the kernel answered with one of some error numbers.
func is(err error, numbers ...syscall.Errno) bool {
	for _, number := range numbers {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}
