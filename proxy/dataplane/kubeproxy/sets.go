package kubeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// The part of ipset's protocol that is needed (include/uapi/linux/netfilter/ipset/ip_set.h).
const (
	ipsetProtocol = 6

	ipsetDestroy = 3
	ipsetList    = 7

	ipsetAttrProtocol = 1
	ipsetAttrName     = 2
	ipsetAttrEntry    = 7
	ipsetAttrEntries  = 8
	// ipsetAttrPort is an attribute of an entry.
	ipsetAttrPort = 4

	// ipsetNotFound and ipsetBusy are errors; the latter is of a set that rules refer to.
	ipsetNotFound = unix.ENOENT
	ipsetBusy     = unix.Errno(4100)
)

// lookAtSets finds kube-proxy's ipsets, and the NodePorts that they list. A kernel without ipset has none.
func lookAtSets(ctx context.Context, found *takeover.Found) error {
	answers, err := ask(ctx, unix.NFNL_SUBSYS_IPSET, ipsetList, unix.AF_UNSPEC, netlink.Dump,
		netlink.Attribute{Type: ipsetAttrProtocol, Data: []byte{ipsetProtocol}})
	if isErrno(err, unix.EINVAL, unix.EOPNOTSUPP, ipsetNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, answer := range answers {
		parts := attributes(answer)
		name := text(parts[ipsetAttrName])
		if !takeover.IsSet(name) {
			continue
		}
		if !slices.Contains(found.Sets, name) { // a large set comes in several answers
			found.Sets = append(found.Sets, name)
		}
		protocol, lists := takeover.NodePortSets[name]
		if !lists {
			continue
		}
		each(parts[ipsetAttrEntries], func(_ uint16, entry []byte) {
			if port := attributes(entry)[ipsetAttrPort]; len(port) == 2 {
				found.NodePorts = append(found.NodePorts, takeover.NodePort{Protocol: protocol, Port: binary.BigEndian.Uint16(port)})
			}
		})
	}
	slices.Sort(found.Sets)
	return nil
}

// freed is how long rules that have been deleted may hold on to their sets: the kernel frees them
// later.
const freed = 10 * time.Second

// removeSets destroys ipsets.
func removeSets(ctx context.Context, names []string) error {
	end := deadline(ctx, freed)
	var errs []error
	for _, name := range names {
		err := destroy(ctx, name)
		for isErrno(err, ipsetBusy) && time.Now().Before(end) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
			err = destroy(ctx, name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("destroy ipset %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func destroy(ctx context.Context, name string) error {
	_, err := ask(ctx, unix.NFNL_SUBSYS_IPSET, ipsetDestroy, unix.AF_UNSPEC, netlink.Acknowledge,
		netlink.Attribute{Type: ipsetAttrProtocol, Data: []byte{ipsetProtocol}},
		netlink.Attribute{Type: ipsetAttrName, Data: append([]byte(name), 0)})
	if isErrno(err, ipsetNotFound) {
		return nil
	}
	return err
}
