package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Namespace is a place to run processes: a network namespace with a mount and a
// UTS namespace of its own. It is held by open files only and thus vanishes with the
// last process in it once closed. Its methods may be called from several goroutines.
type Namespace struct {
	// Name is also the host name inside.
	Name string
	// Path is where programs are looked up, in the form of PATH; empty stands for our
	// own. It is to be set before programs are started.
	Path string

	net, mnt, uts *os.File
	links         *netlink.Handle
}

// A Mount binds the file or directory From over To, as seen inside a Namespace only.
type Mount struct{ From, To string }

// NewNamespace makes a namespace with loopback up and the mounts in place.
func NewNamespace(name string, mounts ...Mount) (*Namespace, error) {
	n := &Namespace{Name: name}
	err := onThrowawayThread(func() error { return n.unshare(mounts) })
	if err == nil {
		n.links, err = netlink.NewHandleAt(netns.NsHandle(n.net.Fd()), unix.NETLINK_ROUTE)
	}
	if err == nil {
		err = errors.Join(n.linkUp("lo"), n.trustAddresses())
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return n, nil
}

func (n *Namespace) unshare(mounts []Mount) error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Sethostname([]byte(n.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	for _, m := range mounts {
		if err := unix.Mount(m.From, m.To, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.From, m.To, err)
		}
	}
	for kind, file := range map[string]**os.File{"net": &n.net, "mnt": &n.mnt, "uts": &n.uts} {
		f, err := os.Open("/proc/thread-self/ns/" + kind)
		if err != nil {
			return err
		}
		*file = f
	}
	return nil
}

// trustAddresses switches the search for duplicate addresses off: for two seconds
// nothing could be forwarded by IPv6, since the link-local address that asks for
// neighbours is not usable before.
func (n *Namespace) trustAddresses() error {
	return errors.Join(
		n.Sysctl("net.ipv6.conf.all.accept_dad", "0"),
		n.Sysctl("net.ipv6.conf.default.accept_dad", "0"),
	)
}

// Close gives up the namespace. Processes in it go on; they keep it alive.
func (n *Namespace) Close() {
	if n.links != nil {
		n.links.Close()
	}
	for _, f := range []*os.File{n.net, n.mnt, n.uts} {
		if f != nil {
			_ = f.Close() // opened for reading only
		}
	}
}

// Run calls f on a thread that is inside the namespace in every respect: what f
// starts, opens and reads belongs there. The thread ends with f.
func (n *Namespace) Run(f func() error) error {
	return onThrowawayThread(func() error {
		if err := n.enter(); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

func (n *Namespace) enter() error {
	// A thread that shares its root and working directory may not change its mount
	// namespace: setns(2).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return errors.Join(
		unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET),
		unix.Setns(int(n.uts.Fd()), unix.CLONE_NEWUTS),
		unix.Setns(int(n.mnt.Fd()), unix.CLONE_NEWNS),
	)
}

// onThrowawayThread runs f on a thread that ends afterwards, as a goroutine that
// returns locked takes its thread with it.
func onThrowawayThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// inNet calls f with the calling thread in the network namespace and returns the
// thread as it was; cheaper than Run, and enough for sockets.
func (n *Namespace) inNet(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// Without Unlock the thread would serve others in the wrong namespace.
		runtime.LockOSThread()
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", n.Name, back))
	}
	return err
}

// Dial connects from inside the namespace to an address literal; names are not
// resolved, because a resolver would run on threads outside.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialBy(ctx, new(net.Dialer), network, address)
}

// DialBy is Dial by a dialer with options.
func (n *Namespace) DialBy(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.inNet(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a stream listener inside the namespace.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.inNet(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// Sysctl sets a network setting of the namespace, named as in sysctl(8); the slashed
// form works for interface names with dots.
func (n *Namespace) Sysctl(name, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	err := n.inNet(func() error { return os.WriteFile(path, []byte(value), 0o644) })
	if err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}
