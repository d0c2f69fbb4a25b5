package kubeproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// Options of a socket by which iptables-legacy reads its tables, the same for both families
// (ip_tables.h, ip6_tables.h), and the sizes of struct ipt_getinfo and the head of struct
// ipt_get_entries.
const (
	optionInfo    = 64
	optionEntries = 65
	nameBytes     = 32
	infoBytes     = 84
	sizeAt        = 80 // of the entries, in ipt_getinfo
	headBytes     = 40
)

// lookAtLegacy finds tables outside of nftables that have chains of kube-proxy's.
func lookAtLegacy(_ context.Context, found *takeover.Found) error {
	for _, family := range []struct {
		name, list    string
		domain, level int
	}{
		{"ip", "ip_tables_names", unix.AF_INET, unix.SOL_IP}, {"ip6", "ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6},
	} {
		// Tables that are not in the list have no rules, and asking for them would make them.
		names, err := os.ReadFile("/proc/thread-self/net/" + family.list)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for table := range strings.FieldsSeq(string(names)) {
			entries, err := legacyEntries(family.domain, family.level, table)
			if err != nil {
				return fmt.Errorf("table %s %s: %w", family.name, table, err)
			}
			if hasChains(entries) {
				found.Legacy = append(found.Legacy, family.name+" "+table)
			}
		}
	}
	return nil
}

// hasChains looks for the names of kube-proxy's chains, each of which stands between zeroes.
func hasChains(entries []byte) bool {
	return slices.ContainsFunc(bytes.Split(entries, []byte{0}), func(text []byte) bool { return takeover.IsChain(string(text)) })
}

// legacyEntries reads a table.
func legacyEntries(domain, level int, table string) ([]byte, error) {
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	info := make([]byte, infoBytes)
	copy(info[:nameBytes-1], table)
	if err := getOption(fd, level, optionInfo, info); err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint32(info[sizeAt:])
	entries := make([]byte, headBytes+int(size))
	copy(entries[:nameBytes-1], table)
	binary.NativeEndian.PutUint32(entries[nameBytes:], size)
	if err := getOption(fd, level, optionEntries, entries); err != nil {
		return nil, err
	}
	return entries[headBytes:], nil
}

// getOption reads an option whose value says what is asked for.
func getOption(fd, level, option int, value []byte) error {
	length := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
