package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// answerTimeout bounds one exchange.
	answerTimeout = 10 * time.Second
	// headerBytes is the size of struct nfgenmsg.
	headerBytes = 4
)

// ask sends one request to a subsystem of netfilter and gives the answers, without their header.
func ask(ctx context.Context, subsystem, command int, family byte, flags netlink.HeaderFlags, attributes ...netlink.Attribute) ([][]byte, error) {
	socket, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("netfilter socket: %w", err)
	}
	defer socket.Close()
	deadline := time.Now().Add(answerTimeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	if err := socket.SetDeadline(deadline); err != nil {
		return nil, err
	}
	data, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return nil, err
	}
	answers, err := socket.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsystem<<8 | command), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	for _, answer := range answers {
		if len(answer.Data) >= headerBytes {
			bodies = append(bodies, answer.Data[headerBytes:])
		}
	}
	return bodies, nil
}

// attributes gives those of a message or of a nest by their types; of several of a type, the last.
func attributes(data []byte) map[uint16][]byte {
	found := map[uint16][]byte{}
	each(data, func(kind uint16, value []byte) { found[kind] = value })
	return found
}

// each calls f for each attribute. What cannot be read has none.
func each(data []byte, f func(kind uint16, value []byte)) {
	list, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return
	}
	for _, a := range list {
		f(a.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), a.Data)
	}
}

// text gives a name that ends with a zero.
func text(value []byte) string { return unix.ByteSliceToString(value) }

// isErrno tells whether the kernel answered with one of some numbers.
func isErrno(err error, numbers ...unix.Errno) bool {
	for _, number := range numbers {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}
