package kubeproxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// States of a socket as /proc/net shows them (net/tcp_states.h).
const (
	established = 1
	timeWait    = 6
	closed      = 7
	listening   = 10
)

// lookAtSockets counts the connections from addresses of the devices. /proc is read since it needs
// no module, unlike sock_diag.
func lookAtSockets(_ context.Context, found *takeover.Found) error {
	addresses := slices.Concat(found.Addresses, found.Held)
	if len(addresses) == 0 {
		return nil
	}
	found.Sources = make(map[netip.Addr]int, len(addresses))
	for _, address := range addresses {
		found.Sources[address] = 0
	}
	for file, counts := range map[string]func(state uint64) bool{
		// A UDP socket that is not connected has the address because somebody has bound it.
		"udp": isEstablished, "udp6": isEstablished, "tcp": isOpen, "tcp6": isOpen,
	} {
		if err := countSources("/proc/thread-self/net/"+file, counts, found.Sources); err != nil {
			return err
		}
	}
	return nil
}

func isEstablished(state uint64) bool { return state == established }

func isOpen(state uint64) bool { return state != timeWait && state != closed && state != listening }

// countSources counts the sockets of a file of /proc/net by their own address, if it is one of
// those in sources. A kernel without IPv6 has no file for it.
func countSources(path string, counts func(state uint64) bool, sources map[netip.Addr]int) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			continue
		}
		state, err := strconv.ParseUint(fields[3], 16, 8)
		if err != nil || !counts(state) {
			continue // the heading is no number
		}
		if address, ok := socketAddress(fields[1]); ok {
			if _, ours := sources[address]; ours {
				sources[address]++
			}
		}
	}
	return lines.Err()
}

// socketAddress reads the address of "0A00600A:1F90": words of four octets, each as the machine
// holds it.
func socketAddress(text string) (netip.Addr, bool) {
	digits, _, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(digits)
	if err != nil || len(words)%4 != 0 {
		return netip.Addr{}, false
	}
	octets := make([]byte, 0, len(words))
	for ; len(words) > 0; words = words[4:] {
		octets = binary.NativeEndian.AppendUint32(octets, binary.BigEndian.Uint32(words))
	}
	return unmap(octets)
}
