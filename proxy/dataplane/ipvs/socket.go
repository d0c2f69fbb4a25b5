package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBytes is the most that the kernel puts into one part of a dump
	// (netlink_recvmsg, af_netlink.c).
	receiveBytes = 32 << 10
	// queueBytes is room for the errors of all messages of a batch; the kernel counts nearly
	// a KiB for each.
	queueBytes = 1 << 20
)

// ErrInterrupted says that what was listed has changed meanwhile.
var ErrInterrupted = errors.New("interrupted by a change")

// A socket exchanges messages with the generic netlink of the namespace in which it was opened.
type socket struct {
	fd      int
	receive [receiveBytes]byte
}

// message is one that came from the kernel; what it holds is valid until the next one is read.
type message struct {
	kind, flags uint16
	sequence    uint32
	payload     []byte
}

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *socket) prepare() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	// An error need not bring the message back that it is about.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueBytes) != nil {
		// Without the right to exceed the limit: as much as it allows.
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queueBytes))
	}
	return nil
}

func (s *socket) close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

// send gives messages to the kernel, which has done what they ask for when send returns; what it
// answers is waiting then.
func (s *socket) send(messages []byte) error {
	for {
		err := unix.Sendto(s.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// each calls visit with messages of the kernel until it gives false or an error.
func (s *socket) each(ctx context.Context, deadline time.Time, visit func(message) (more bool, err error)) error {
	for {
		data, err := s.read(ctx, deadline)
		if err != nil {
			return err
		}
		for len(data) >= unix.SizeofNlMsghdr {
			length := int(binary.NativeEndian.Uint32(data))
			if length < unix.SizeofNlMsghdr || length > len(data) {
				return fmt.Errorf("netlink message of %d octets in %d", length, len(data))
			}
			more, err := visit(message{
				kind: binary.NativeEndian.Uint16(data[4:]), flags: binary.NativeEndian.Uint16(data[6:]),
				sequence: binary.NativeEndian.Uint32(data[8:]), payload: data[unix.SizeofNlMsghdr:length],
			})
			if err != nil || !more {
				return err
			}
			data = data[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(data)):]
		}
	}
}

// read gives what the kernel sent next, at once if there is something.
func (s *socket) read(ctx context.Context, deadline time.Time) ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.receive[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := s.await(ctx, deadline); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, os.NewSyscallError("recvfrom", err)
		}
		if sender, is := from.(*unix.SockaddrNetlink); is && sender.Pid == 0 {
			return s.receive[:n], nil
		} // else somebody else than the kernel
	}
}

// slice is how long a wait lasts before ctx is looked at.
const slice = 100 * time.Millisecond

// await waits for the kernel, which hardly ever happens: it has answered when send returns.
func (s *socket) await(ctx context.Context, deadline time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	left := time.Until(deadline)
	if left <= 0 {
		return ErrTimeout
	}
	wait := int(min(left, slice)/time.Millisecond) + 1
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, wait)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}
