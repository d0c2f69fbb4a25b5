package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

const (
	// perBatch is how many requests go to the kernel by one system call. All their errors
	// fit into the socket's queue, and another program waits for IPVS no longer than that.
	perBatch = 256
	// perFind is how many virtual servers are asked for by one system call: an answer that is more
	// than an error takes some five KiB of the queue.
	perFind = 64
	// dumpTries is how often something is listed that others change meanwhile.
	dumpTries = 5
)

// pipeline is the connection that gives the kernel many messages at once. The kernel handles
// them in order, and reports each that fails by its sequence number; the last one is
// acknowledged too, and with it those before of which nothing was reported.
type pipeline struct {
	dial    func() (exchanger, error)
	family  uint16
	timeout time.Duration
	logger  *slog.Logger

	exchanger exchanger
	sequence  uint32
	encoder   encoder
}

// exchanger is what a pipeline needs of a socket.
type exchanger interface {
	send(messages []byte) error
	each(ctx context.Context, deadline time.Time, visit func(message) (more bool, err error)) error
	close() error
}

// Open opens the socket. The kernel must have the generic netlink family IPVS
// already: see Available. Each batch of operations may take timeout.
func Open(timeout time.Duration, logger *slog.Logger) (*Table, error) {
	family, err := netlink.GenlFamilyGet(familyName)
	if err != nil {
		return nil, fmt.Errorf("ipvs family: %w", err)
	}
	dial := func() (exchanger, error) { return openSocket() }
	return openPipeline(dial, family.ID, timeout, logger)
}

func openPipeline(dial func() (exchanger, error), family uint16, timeout time.Duration, logger *slog.Logger) (*Table, error) {
	p := &pipeline{dial: dial, family: family, timeout: timeout, logger: logger}
	if err := p.reopen(); err != nil {
		return nil, err
	}
	return &Table{p}, nil
}

func (p *pipeline) reopen() error {
	if p.exchanger != nil {
		return nil
	}
	exchanger, err := p.dial()
	if err != nil {
		return fmt.Errorf("ipvs socket: %w", err)
	}
	p.exchanger = exchanger
	return nil
}

// Close implements connection.
func (p *pipeline) Close() {
	if p.exchanger != nil {
		_ = p.exchanger.close() // nothing is lost by a socket that does not close
		p.exchanger = nil
	}
}

// send implements connection.
func (p *pipeline) send(ctx context.Context, requests []request) []error {
	errs := make([]error, 0, len(requests))
	for batch := range slices.Chunk(requests, perBatch) {
		errs = append(errs, p.batch(ctx, batch)...)
	}
	return errs
}

func (p *pipeline) batch(ctx context.Context, requests []request) []error {
	errs := make([]error, len(requests))
	err := p.exchange(ctx, func(first uint32) {
		for i, r := range requests {
			flags := uint16(0)
			if i == len(requests)-1 {
				flags = unix.NLM_F_ACK
			}
			p.encoder.request(p.family, flags, first+uint32(i), r)
		}
	}, len(requests), func(i int, m message) (bool, error) {
		if m.kind != unix.NLMSG_ERROR {
			return true, nil
		}
		var err error
		errs[i], err = answer(m)
		return i < len(requests)-1, err
	})
	if err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err // whether it was done is not known
			}
		}
	}
	return errs
}

// answer gives what a message of kind NLMSG_ERROR says of a request; nil if it was done.
func answer(m message) (answer, err error) {
	if len(m.payload) < 4 {
		return nil, errors.New("netlink error without a number")
	}
	if number := int32(binary.NativeEndian.Uint32(m.payload)); number != 0 {
		return syscall.Errno(-number), nil
	}
	return nil, nil
}

// exchange has messages written with sequence numbers from first on, sends them, and calls visit
// with what comes back for each, until it gives false. After an error the socket is replaced, so
// that a late answer cannot be taken for that of another question.
func (p *pipeline) exchange(ctx context.Context, write func(first uint32), count int, visit func(i int, m message) (more bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.reopen(); err != nil {
		return err
	}
	first := p.sequence + 1
	p.sequence += uint32(count)
	p.encoder.buffer = p.encoder.buffer[:0]
	write(first)
	deadline := time.Now().Add(p.timeout)
	err := p.exchanger.send(p.encoder.buffer)
	if err == nil {
		err = p.exchanger.each(ctx, deadline, func(m message) (bool, error) {
			if i := m.sequence - first; i < uint32(count) {
				return visit(int(i), m)
			}
			return true, nil
		})
	}
	if err == nil || errors.Is(err, errAnswered) {
		return err
	}
	p.logger.Warn("ipvs: exchange not completed, opening a new socket", "err", err)
	p.Close()
	if errors.Is(err, ErrTimeout) {
		err = fmt.Errorf("%w after %s", ErrTimeout, p.timeout)
	}
	return err
}

// errAnswered says that the kernel has answered with an error, and will not say more.
var errAnswered = errors.New("refused")

// list makes one dump, again if it was interrupted. reset is called before each.
func (p *pipeline) list(ctx context.Context, command uint8, of *plan.Key, reset func(), visit func(payload []byte)) error {
	var err error
	for range dumpTries {
		reset()
		if err = p.dump(ctx, command, of, visit); !errors.Is(err, ErrInterrupted) {
			return err
		}
	}
	return err
}

func (p *pipeline) dump(ctx context.Context, command uint8, of *plan.Key, visit func(payload []byte)) error {
	interrupted := false
	err := p.exchange(ctx, func(first uint32) {
		message := p.encoder.begin(p.family, unix.NLM_F_DUMP, first, command)
		if of != nil {
			p.encoder.service(*of, nil)
		}
		p.encoder.end(message)
	}, 1, func(_ int, m message) (bool, error) {
		interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
		switch m.kind {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE: // both begin with a number
			refused, err := answer(m)
			if refused != nil {
				err = errors.Join(errAnswered, refused)
			}
			return false, err
		case p.family:
			visit(m.payload)
		}
		return true, nil
	})
	if err == nil && interrupted {
		err = ErrInterrupted
	}
	return err
}

// VirtualServers implements connection.
func (p *pipeline) VirtualServers(ctx context.Context) (plan.Plan, error) {
	var result plan.Plan
	err := p.list(ctx, commandGetService, nil, func() { result = plan.Plan{} }, func(payload []byte) {
		if key, value, ok := decodeService(payload); ok {
			result[key] = value
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	return result, nil
}

// Find implements connection.
func (p *pipeline) Find(ctx context.Context, virtual []plan.Key) (plan.Plan, error) {
	result := make(plan.Plan, len(virtual))
	for part := range slices.Chunk(virtual, perFind) {
		if err := p.find(ctx, part, result); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// find adds to a plan those of some virtual servers that exist. The kernel answers each question by
// one message, in their order.
func (p *pipeline) find(ctx context.Context, virtual []plan.Key, result plan.Plan) error {
	return p.exchange(ctx, func(first uint32) {
		for i, key := range virtual {
			message := p.encoder.begin(p.family, 0, first+uint32(i), commandGetService)
			p.encoder.service(key, nil)
			p.encoder.end(message)
		}
	}, len(virtual), func(i int, m message) (bool, error) {
		switch m.kind {
		case unix.NLMSG_ERROR:
			refused, err := answer(m)
			if refused != nil && !is(refused, syscall.ESRCH) {
				err = fmt.Errorf("look at %s: %w", virtual[i], refused)
			}
			if err != nil {
				return false, err
			}
		case p.family:
			if _, value, ok := decodeService(m.payload); ok {
				result[virtual[i]] = value
			}
		}
		return i < len(virtual)-1, nil
	})
}

// RealServers implements connection.
func (p *pipeline) RealServers(ctx context.Context, virtual plan.Key) (plan.Plan, map[plan.Key]Connections, error) {
	var servers plan.Plan
	var holds map[plan.Key]Connections
	err := p.list(ctx, commandGetDest, &virtual, func() { servers, holds = plan.Plan{}, map[plan.Key]Connections{} }, func(payload []byte) {
		if key, value, held, ok := decodeDest(payload, virtual); ok {
			servers[key], holds[key] = value, held
		}
	})
	if is(err, syscall.ESRCH, syscall.ENOENT) {
		err = ErrNoVirtualServer
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list real servers of %s: %w", virtual, err)
	}
	return servers, holds, nil
}

// SetTimeouts implements connection.
func (p *pipeline) SetTimeouts(ctx context.Context, tcp, tcpFin, udp time.Duration) error {
	if tcp == 0 && tcpFin == 0 && udp == 0 {
		return nil
	}
	return p.exchange(ctx, func(first uint32) {
		message := p.encoder.begin(p.family, unix.NLM_F_ACK, first, commandSetConfig)
		for kind, timeout := range map[uint16]time.Duration{
			attributeTimeoutTCP: tcp, attributeTimeoutTCPFin: tcpFin, attributeTimeoutUDP: udp,
		} {
			p.encoder.uint32(kind, uint32(timeout.Seconds()))
		}
		p.encoder.end(message)
	}, 1, func(_ int, m message) (bool, error) {
		refused, err := answer(m)
		if refused != nil {
			err = errors.Join(errAnswered, refused)
		}
		return false, err
	})
}
