// Package ipvs keeps the virtual and real servers of the kernel's IPVS.
//
// It promises that no exchange waits for the kernel longer than its deadline, that it never
// touches what it was not told to touch, and keeps no state besides the socket. After an
// exchange that went wrong the socket is replaced.
//
// There are two ways to the kernel with one contract: a Table of Open puts many operations into
// one message to the kernel, one of OpenMoby does them one by one by github.com/moby/ipvs, and is
// what the first is compared with.
//
// The socket belongs to the network namespace of the thread that opened it; a replacement to
// that of the thread that called the failing method. A Table is not safe for concurrent use.
package ipvs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/mooring-project/mooring/proxy/plan"
)

// ErrTimeout is wrapped by the error of an operation that the kernel did not acknowledge
// in time. Whether it took effect is not known.
var ErrTimeout = errors.New("no acknowledgement from the kernel")

// ErrNoVirtualServer is wrapped by the error of an operation on a real server whose
// virtual server does not exist.
var ErrNoVirtualServer = errors.New("no such virtual server")

// ErrNoScheduler is wrapped by the error of an operation on a virtual server whose scheduler the
// kernel does not have and could not load.
var ErrNoScheduler = errors.New("not in the kernel")

// maxWeight is what moby/ipvs can read back (it cuts the kernel's 32 bits to 16).
const maxWeight = math.MaxUint16

const (
	// flagHashed is IP_VS_SVC_F_HASHED: the kernel's own note that a service is in
	// its hash table (ip_vs.h).
	flagHashed = 0x2
	// noNetmask makes persistence look at the client's whole address. IPv4 has a
	// mask there, IPv6 a prefix length (ip_vs_genl_parse_service, ip_vs_ctl.c).
	noNetmask4, noNetmask6 = 0xffffffff, 128
	// forwardMask has the bits of the forwarding method (IP_VS_CONN_F_FWD_MASK).
	forwardMask = 0x7
)

// Connections tells what a real server holds and has held.
type Connections struct {
	Active, Inactive uint32
	Counters         Counters
}

// Counters are the kernel's since the server was made. With moby/ipvs those of connections and
// packets have 32 bits.
type Counters struct {
	Connections, PacketsIn, PacketsOut, BytesIn, BytesOut uint64
}

// Table is the kernel's table of virtual servers.
type Table struct{ connection }

// connection is a way to the kernel.
type connection interface {
	// VirtualServers lists every virtual server in the network namespace, also those of
	// other software.
	VirtualServers(ctx context.Context) (plan.Plan, error)
	// Find gives those of some virtual servers that exist, at a cost that does not depend on how
	// many there are besides.
	Find(ctx context.Context, virtual []plan.Key) (plan.Plan, error)
	// RealServers lists the real servers of one virtual server, with what each one holds.
	RealServers(ctx context.Context, virtual plan.Key) (plan.Plan, map[plan.Key]Connections, error)
	// SetTimeouts sets the idle timeouts of the network namespace's connections; zero
	// leaves one as it is.
	SetTimeouts(ctx context.Context, tcp, tcpFin, udp time.Duration) error
	// Close closes the socket.
	Close()
	// send makes requests in order, whatever becomes of the others, and gives the kernel's
	// answer to each.
	send(ctx context.Context, requests []request) []error
}

// request asks for what its verb says, and fails if it is so already, or cannot be.
type request struct {
	verb  plan.Verb
	key   plan.Key
	value plan.Value
}

// Do does operations on virtual and real servers in order and goes on after one that goes wrong.
// It gives an error, or nil, for each. Adding what exists updates it, updating what does not
// exist adds it, deleting what does not exist is no error.
func (t *Table) Do(ctx context.Context, ops ...plan.Op) []error {
	d := doing{ops: ops, errs: make([]error, len(ops))}
	for i, op := range ops {
		if d.errs[i] = check(op); d.errs[i] == nil {
			d.turns = append(d.turns, turn{index: i, verb: op.Verb})
		}
	}
	// Hardly ever is there a second turn: what exists is known.
	for len(d.turns) > 0 {
		answers := t.send(ctx, d.requests())
		d.follow(answers)
	}
	return d.errs
}

// check refuses what is never to reach the kernel.
func check(op plan.Op) error {
	switch {
	case op.Key.Kind != plan.VirtualServer && op.Key.Kind != plan.RealServer:
		return fmt.Errorf("ipvs has no objects of kind %s", op.Key.Kind)
	case op.Value.Weight > maxWeight:
		return fmt.Errorf("weight %d: at most %d can be read back", op.Value.Weight, maxWeight)
	}
	return nil
}

// doing is one call of Do.
type doing struct {
	ops  []plan.Op
	errs []error
	// turns are to be sent next.
	turns []turn
}

// turn is an operation to be sent, for the first time or once more.
type turn struct {
	index int
	verb  plan.Verb
	// again is true if it has been sent with the other verb; late if its virtual server
	// was not there then.
	again, late bool
}

func (d *doing) requests() []request {
	requests := make([]request, len(d.turns))
	for i, turn := range d.turns {
		op := d.ops[turn.index]
		requests[i] = request{verb: turn.verb, key: op.Key, value: op.Value}
	}
	return requests
}

// follow draws the conclusions from the kernel's answers.
func (d *doing) follow(answers []error) {
	var next []turn
	returning := map[plan.Key]bool{} // virtual servers that are sent once more
	for i, turn := range d.turns {
		op, err := d.ops[turn.index], answers[i]
		switch {
		case err == nil || turn.verb == plan.Delete && is(err, syscall.ESRCH, syscall.ENOENT):
			err = nil
		case !turn.again && turn.verb == plan.Add && is(err, syscall.EEXIST):
			turn.verb, turn.again = plan.Update, true
			next = append(next, turn)
		case !turn.again && turn.verb == plan.Update && is(err, absent(op.Key)):
			turn.verb, turn.again = plan.Add, true
			next = append(next, turn)
			returning[op.Key] = true
		case op.Key.Kind == plan.RealServer && is(err, syscall.ESRCH):
			err = ErrNoVirtualServer
			if !turn.late && returning[op.Key.VirtualServerKey()] {
				turn.late = true
				next = append(next, turn)
			}
		default:
			err = schedulerMissing(op, err)
		}
		d.errs[turn.index] = err
	}
	d.turns = next
}

// absent is how the kernel says that an object does not exist.
func absent(key plan.Key) syscall.Errno {
	if key.Kind == plan.VirtualServer {
		return syscall.ESRCH
	}
	return syscall.ENOENT
}

// schedulerMissing names the module behind the kernel's bare ENOENT.
func schedulerMissing(op plan.Op, err error) error {
	if op.Key.Kind == plan.VirtualServer && is(err, syscall.ENOENT) {
		scheduler := op.Value.Scheduler
		return fmt.Errorf("scheduler %q is %w (modprobe ip_vs_%s): %w", scheduler, ErrNoScheduler, scheduler, err)
	}
	return err
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
