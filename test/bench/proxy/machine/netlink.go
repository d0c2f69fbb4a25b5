package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/lab"
)

// listener hears all netlink messages of a namespace (nlmon).
type listener struct {
	socket int
	done   chan struct{}
	// mu guards heard.
	mu    sync.Mutex
	heard measured.Messages
}

const (
	monitor = "nlmon0"
	// listenBuffer is ample for a burst of lists while the listener does not get to run.
	listenBuffer = 512 << 20
	// largest is more than any datagram that the kernel gives to a monitor: it copies what is in
	// vmalloc memory and cannot allocate more than 4 MiB at once.
	largest = 8 << 20
)

func listen(ctx context.Context, in *lab.Namespace) (*listener, error) {
	if err := errors.Join(
		ip(ctx, in, "link", "add", monitor, "type", "nlmon"),
		ip(ctx, in, "link", "set", monitor, "up"),
	); err != nil {
		return nil, err
	}
	l := &listener{done: make(chan struct{})}
	if err := in.Run(l.open); err != nil {
		return nil, fmt.Errorf("monitor of netlink: %w", err)
	}
	go l.run()
	return l, nil
}

func (l *listener) open() (err error) {
	everything := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	if l.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything); err != nil {
		return err
	}
	link, err := net.InterfaceByName(monitor)
	if err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(l.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer),
		unix.SetsockoptTimeval(l.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(l.socket, &unix.SockaddrLinklayer{Protocol: uint16(everything), Ifindex: link.Index}),
	)
}

func (l *listener) run() {
	defer unix.Close(l.socket)
	buffer := make([]byte, largest)
	for {
		n, _, err := unix.Recvfrom(l.socket, buffer, 0)
		select {
		case <-l.done:
			return
		default:
		}
		if err == nil {
			l.take(buffer[:n])
		}
	}
}

// take counts the messages of a datagram (netlink(7)). Only requests have the first flag.
func (l *listener) take(datagram []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard.Octets += int64(len(datagram))
	for len(datagram) >= unix.NLMSG_HDRLEN {
		header := (*unix.NlMsghdr)(unsafe.Pointer(&datagram[0]))
		if header.Flags&unix.NLM_F_REQUEST != 0 {
			l.heard.Requests++
		} else {
			l.heard.Replies++
		}
		length := (int(header.Len) + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		if length < unix.NLMSG_HDRLEN || length > len(datagram) {
			return
		}
		datagram = datagram[length:]
	}
}

// count is what has been heard so far; nil if nobody listens.
func (l *listener) count() *measured.Messages {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The kernel's count begins anew each time it is asked.
	if stats, err := unix.GetsockoptTpacketStats(l.socket, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		l.heard.Lost += int(stats.Drops)
	}
	heard := l.heard
	return &heard
}

func (l *listener) close() { close(l.done) }

func difference(after, before *measured.Messages) *measured.Messages {
	if after == nil {
		return nil
	}
	return &measured.Messages{
		Requests: after.Requests - before.Requests, Replies: after.Replies - before.Replies,
		Octets: after.Octets - before.Octets, Lost: after.Lost - before.Lost,
	}
}
