package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// wholeKinds are those whose sets are read as a whole: what they mean is not in one element.
var wholeKinds = slices.Concat(intervalKinds, []plan.Kind{plan.AffinityTimeout})

// listingBytes is how much of a set is read at a time, some 450 elements: half of what the kernel would give.
const listingBytes = partBytes / 2

// A listing reads the sets of a kind a part at a time, by a socket of its own, so that transactions
// can come between. The socket is kept, as that of the Table.
type listing struct {
	socket *netlink.Conn
	kind   plan.Kind
	// left are the families whose set has not been read to its end; asked is whether the first one's
	// has been asked for.
	left   []family
	asked  bool
	buffer [listingBytes]byte
}

// ObservePart reads the next elements of the sets of a kind, the first ones if first, and tells whether
// there are more. The sets may be changed between two parts: elements that are there all the
// time can be missing from the parts then, or come twice, and those of a part may have gone.
func (t *Table) ObservePart(ctx context.Context, kind plan.Kind, first bool) (part plan.Plan, more bool, err error) {
	if slices.Contains(wholeKinds, kind) {
		part, err = t.ObserveKinds(ctx, kind)
		return part, false, err
	}
	if err = ctx.Err(); err == nil && first {
		err = t.listing.begin(kind)
	}
	if err == nil {
		part, more, err = t.listing.next(time.Now().Add(t.timeout))
	}
	if err != nil {
		return nil, false, errors.Join(fmt.Errorf("list elements of kind %s: %w", kind, err), t.listing.close())
	}
	return part, more, nil
}

// begin ends what was going on and begins with a kind.
func (l *listing) begin(kind plan.Kind) error {
	if l.asked {
		if err := l.close(); err != nil { // the kernel has more to say of that
			return err
		}
	}
	l.kind, l.left = kind, []family{ipv4, ipv6}
	if l.socket != nil {
		return nil
	}
	var err error
	l.socket, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
	return err
}

func (l *listing) close() error {
	l.left, l.asked = nil, false
	if l.socket == nil {
		return nil
	}
	socket := l.socket
	l.socket = nil
	return socket.Close()
}

// next reads one part.
func (l *listing) next(deadline time.Time) (part plan.Plan, more bool, err error) {
	part = plan.Plan{}
	if len(l.left) == 0 {
		return part, false, nil
	}
	f := l.left[0]
	if !l.asked {
		if err := l.ask(f); err != nil {
			return nil, false, err
		}
		l.asked = true
	}
	messages, err := l.receive(deadline)
	if err != nil {
		return nil, false, err
	}
	for _, m := range messages {
		if m.Header.Type != unix.NLMSG_DONE && m.Header.Type != unix.NLMSG_ERROR {
			if err := addElements(part, l.kind, f, m.Data); err != nil {
				return nil, false, err
			}
			continue
		}
		l.left, l.asked = l.left[1:], false
		// Both begin with a number. A set that is not there has no elements.
		if err := errno(m.Data); err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, false, err
		}
	}
	return part, len(l.left) > 0, nil
}

// errno gives the error whose negative number some octets begin with.
func errno(data []byte) error {
	if len(data) < 4 {
		return errors.New("netlink answer without a number")
	}
	if number := int32(binary.NativeEndian.Uint32(data)); number != 0 {
		return syscall.Errno(-number)
	}
	return nil
}

// ask asks for a set.
func (l *listing) ask(f family) error {
	request, err := elementRequest(netlink.Dump, listName(l.kind, f), nil)
	if err == nil {
		_, err = l.socket.Send(request)
	}
	return err
}

// receive reads what the kernel gives at once. The Conn's own way would read to the end.
func (l *listing) receive(deadline time.Time) (messages []syscall.NetlinkMessage, err error) {
	raw, err := l.socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := l.socket.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	n := 0
	waited := raw.Read(func(fd uintptr) (done bool) {
		n, _, err = unix.Recvfrom(int(fd), l.buffer[:], unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if err = errors.Join(waited, err); err != nil {
		return nil, err
	}
	return syscall.ParseNetlinkMessage(l.buffer[:n])
}
