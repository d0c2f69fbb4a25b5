package dataplane

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/dataplane/nft"
)

// A Watch hears what the kernel announces when somebody else changes our table, our rule or our
// route. IPVS announces nothing.
type Watch struct {
	kernel       *Kernel
	table, route *netlink.Conn
}

// Signs that a Watch gives.
const (
	SignTable = "nftables"
	SignRoute = "routing"
	// SignMissed says that announcements came faster than they were read.
	SignMissed = "announcements lost"
)

// OpenWatch opens the sockets of a Watch in the network namespace of the calling thread. They
// hear nothing before Run.
func (k *Kernel) OpenWatch() (*Watch, error) {
	table, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nft watch: %w", err)
	}
	route, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("route watch: %w", err), table.Close())
	}
	return &Watch{kernel: k, table: table, route: route}, nil
}

// Run calls sign, from several goroutines, whenever there may be something to be put right,
// until ctx ends; then it closes the sockets. A Watch runs once.
func (w *Watch) Run(ctx context.Context, sign func(string)) error {
	stop := context.AfterFunc(ctx, func() { w.table.Close(); w.route.Close() })
	defer stop()
	var tableErr, routeErr error
	var both sync.WaitGroup
	both.Go(func() {
		tableErr = hear(ctx, w.table, []uint32{unix.NFNLGRP_NFTABLES}, func(m netlink.Message) {
			if w.foreignTable(m) {
				sign(SignTable)
			}
		}, sign)
	})
	both.Go(func() {
		groups := []uint32{unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
		routeErr = hear(ctx, w.route, groups, func(m netlink.Message) {
			if w.lostRoute(m) {
				sign(SignRoute)
			}
		}, sign)
	})
	both.Wait()
	return errors.Join(tableErr, routeErr)
}

// hear reads announcements until ctx ends.
func hear(ctx context.Context, socket *netlink.Conn, groups []uint32, heard func(netlink.Message), sign func(string)) error {
	for _, group := range groups {
		if err := socket.JoinGroup(group); err != nil && ctx.Err() == nil {
			return fmt.Errorf("netlink group %d: %w", group, err)
		}
	}
	for {
		messages, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			sign(SignMissed)
		case err != nil:
			return fmt.Errorf("netlink announcements: %w", err)
		}
		for _, m := range messages {
			heard(m)
		}
	}
}

// Sizes of the headers that precede the attributes: struct nfgenmsg; struct rtmsg and struct
// fib_rule_hdr, which have equally many octets.
const (
	nfgenmsgBytes = 4
	rtmsgBytes    = 12
)

// foreignTable tells whether an announcement is about our table and not about what we did.
// Attribute 1 is the table's name in all of them but those of a generation (nf_tables.h).
func (w *Watch) foreignTable(m netlink.Message) bool {
	kind := uint16(m.Header.Type)
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || kind&0xff == unix.NFT_MSG_NEWGEN || m.Header.PID == w.kernel.nft.Port() {
		return false
	}
	name := attribute(m.Data, nfgenmsgBytes, 1)
	return string(bytes.TrimRight(name, "\x00")) == nft.TableName
}

// lostRoute tells whether an announcement says that a rule or route of our table is gone.
// Attribute 15 is the table in both (FRA_TABLE, RTA_TABLE).
func (w *Watch) lostRoute(m netlink.Message) bool {
	if !slices.Contains([]netlink.HeaderType{unix.RTM_DELRULE, unix.RTM_DELROUTE}, m.Header.Type) {
		return false
	}
	table := attribute(m.Data, rtmsgBytes, unix.RTA_TABLE)
	return len(table) == 4 && int(binary.NativeEndian.Uint32(table)) == w.kernel.options.RouteTable
}

// attribute gives an attribute's octets from a message behind a header; nil if it has none.
func attribute(data []byte, header int, kind uint16) []byte {
	if len(data) < header {
		return nil
	}
	attributes, err := netlink.UnmarshalAttributes(data[header:])
	if err != nil {
		return nil
	}
	for _, a := range attributes {
		if a.Type == kind {
			return a.Data
		}
	}
	return nil
}
