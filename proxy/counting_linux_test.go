package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/testkit/netns"
)

// What the counts of this file are of is seen by the kernel, not by the program that is counted.

// ear hears every netlink message of a namespace, by a device made for that (nlmon).
type ear struct {
	t  testing.TB
	fd int
}

// heard are numbers of netlink messages.
type heard struct {
	// sent went to the kernel, received came from it; lists are those sent that ask for one.
	sent, received, lists int
}

// earBytes is room for all messages between two looks.
const earBytes = 256 << 20

func newEar(t testing.TB, namespace *netns.Namespace) *ear {
	t.Helper()
	e := &ear{t: t}
	namespace.Do(func() {
		link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "nlmon0"}, LinkType: "nlmon"}
		if err := netlink.LinkAdd(link); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			t.Fatal(err)
		}
		e.fd = fd
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, earBytes),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}))
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Close(e.fd) })
	e.take()
	return e
}

// take gives what has been heard since it was called last.
func (e *ear) take() heard {
	e.t.Helper()
	h, dropped := e.drain()
	if dropped > 0 {
		e.t.Fatalf("%d packets of netlink messages were not heard", dropped)
	}
	return h
}

func (e *ear) drain() (h heard, dropped uint32) {
	buffer := make([]byte, 1<<20)
	for {
		n, _, err := unix.Recvfrom(e.fd, buffer, 0)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				e.t.Error(err)
			}
			break
		}
		h.count(buffer[:n])
	}
	stats, err := unix.GetsockoptTpacketStats(e.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		e.t.Error(err)
		return h, 0
	}
	return h, stats.Drops
}

// count counts the messages of a packet.
func (h *heard) count(data []byte) {
	for len(data) >= unix.SizeofNlMsghdr {
		length, flags := int(binary.NativeEndian.Uint32(data)), binary.NativeEndian.Uint16(data[6:])
		if flags&unix.NLM_F_REQUEST == 0 {
			h.received++
		} else {
			h.sent++
			if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
				h.lists++
			}
		}
		data = data[min((max(length, unix.SizeofNlMsghdr)+3)&^3, len(data)):]
	}
}

// calls counts the system calls of a process by the kernel's tracepoint of all of them.
type calls struct {
	t       testing.TB
	counted []int // file descriptors of counters, one for each thread
}

// ofTheRuntime are system calls by which Go's runtime manages threads, timers, memory and waiting.
var ofTheRuntime = []int{
	unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_READ, unix.SYS_WRITE,
	unix.SYS_MADVISE, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_CLONE, unix.SYS_TGKILL, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPROCMASK,
	unix.SYS_SIGALTSTACK, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_RSEQ, unix.SYS_SET_ROBUST_LIST, unix.SYS_RESTART_SYSCALL, unix.SYS_PRCTL,
}

// not is a filter for all calls but some; only one for some alone.
func not(numbers []int) string   { return filter(numbers, "!=", " && ") }
func only(numbers ...int) string { return filter(numbers, "==", " || ") }

func filter(numbers []int, relation, join string) string {
	var parts []string
	for _, n := range numbers {
		parts = append(parts, fmt.Sprintf("id %s %d", relation, n))
	}
	return strings.Join(parts, join)
}

// countCalls counts the calls of all threads that a process has and will have.
func countCalls(t testing.TB, pid int, filter string) *calls {
	t.Helper()
	const tracing = "/sys/kernel/tracing"
	if err := unix.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatalf("mount %s: %v", tracing, err)
	}
	text, err := os.ReadFile(filepath.Join(tracing, "events/raw_syscalls/sys_enter/id"))
	if err != nil {
		t.Fatal(err)
	}
	event, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	c := &calls{t: t}
	t.Cleanup(func() {
		for _, fd := range c.counted {
			unix.Close(fd)
		}
	})
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		attributes := &unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: event, Bits: unix.PerfBitInherit}
		attributes.Size = uint32(unsafe.Sizeof(*attributes))
		fd, err := unix.PerfEventOpen(attributes, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		c.counted = append(c.counted, fd)
		if filter == "" {
			continue
		}
		expression, _ := unix.BytePtrFromString(filter)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.PERF_EVENT_IOC_SET_FILTER, uintptr(unsafe.Pointer(expression))); errno != 0 {
			t.Fatalf("filter %q: %v", filter, errno)
		}
	}
	return c
}

// total gives the number of calls since countCalls.
func (c *calls) total() (sum int) {
	c.t.Helper()
	for _, fd := range c.counted {
		var value [8]byte
		if _, err := unix.Read(fd, value[:]); err != nil {
			c.t.Fatal(err)
		}
		sum += int(binary.NativeEndian.Uint64(value[:]))
	}
	return sum
}
