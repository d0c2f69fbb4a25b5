// Package route keeps the routing rule and the table behind it that deliver marked
// packets to this host.
//
// It promises to touch its own rule (by mark, mask and table) and its own table only.
// The netlink socket of each call belongs to the network namespace of the calling thread.
package route

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Divert is `ip rule priority P fwmark M/M lookup T` and `local default dev lo table T`.
type Divert struct {
	Mark     uint32
	Table    int
	Priority int
	// Families are those of netlink.FAMILY_V4 and netlink.FAMILY_V6 to serve.
	Families []int
}

// Setup adds what is missing. A rule of ours at another priority, or for another mark,
// that an earlier configuration left behind is removed.
func (d Divert) Setup() error {
	for _, family := range d.Families {
		if err := d.addRoute(family); err != nil {
			return fmt.Errorf("table %d: local default: %w", d.Table, err)
		}
		if err := d.setupRule(family); err != nil {
			return fmt.Errorf("rule fwmark %#x lookup %d: %w", d.Mark, d.Table, err)
		}
	}
	return nil
}

// Lacking lists in words what Setup would add or remove.
func (d Divert) Lacking() ([]string, error) {
	var lacking []string
	for _, family := range d.Families {
		rules, err := d.rules(family)
		if err != nil {
			return nil, err
		}
		if len(rules) != 1 || !d.matches(rules[0]) {
			lacking = append(lacking, fmt.Sprintf("%s rule fwmark %#x lookup %d is missing, or not the only one", names[family], d.Mark, d.Table))
		}
		routes, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: d.Table, Type: unix.RTN_LOCAL}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		})
		if err != nil {
			return nil, err
		}
		if len(routes) == 0 {
			lacking = append(lacking, fmt.Sprintf("%s route local default in table %d is missing", names[family], d.Table))
		}
	}
	return lacking, nil
}

var names = map[int]string{netlink.FAMILY_V4: "IPv4", netlink.FAMILY_V6: "IPv6"}

// Cleanup removes rule and route of both families.
func (d Divert) Cleanup() error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := d.rules(family)
		errs = append(errs, err)
		for i := range rules {
			errs = append(errs, ignore(netlink.RuleDel(&rules[i]), syscall.ENOENT))
		}
		route, err := d.route(family)
		if err == nil {
			err = ignore(netlink.RouteDel(route), syscall.ESRCH, syscall.ENOENT)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("routing table %d: %w", d.Table, err)
	}
	return nil
}

func (d Divert) setupRule(family int) error {
	rules, err := d.rules(family)
	if err != nil {
		return err
	}
	present := false
	for i := range rules {
		if !present && d.matches(rules[i]) {
			present = true
			continue
		}
		if err := ignore(netlink.RuleDel(&rules[i]), syscall.ENOENT); err != nil {
			return err
		}
	}
	if present {
		return nil
	}
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = family, d.Table, d.Priority
	rule.Mark, rule.Mask = d.Mark, &d.Mark
	return ignore(netlink.RuleAdd(rule), syscall.EEXIST)
}

// rules gives those that look up our table.
func (d Divert) rules(family int) ([]netlink.Rule, error) {
	return whole(func() ([]netlink.Rule, error) {
		return netlink.RuleListFiltered(family, &netlink.Rule{Table: d.Table}, netlink.RT_FILTER_TABLE)
	})
}

// listTries is how often something is listed that others change meanwhile.
const listTries = 5

// whole lists again if something has changed meanwhile, which may have hidden an entry.
func whole[T any](list func() ([]T, error)) (found []T, err error) {
	for range listTries {
		if found, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return found, err
}

func (d Divert) matches(rule netlink.Rule) bool {
	return rule.Mark == d.Mark && rule.Mask != nil && *rule.Mask == d.Mark && rule.Priority == d.Priority
}

func (d Divert) addRoute(family int) error {
	route, err := d.route(family)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(route)
}

func (d Divert) route(family int) (*netlink.Route, error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("lo: %w", err)
	}
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if family == netlink.FAMILY_V6 {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{
		Family: family, Dst: all, Table: d.Table, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		LinkIndex: loopback.Attrs().Index,
	}, nil
}

// ignore takes some answers for success. A table that holds nothing does not exist,
// which the kernel tells in either of two ways.
func ignore(err error, numbers ...syscall.Errno) error {
	for _, number := range numbers {
		if errors.Is(err, number) {
			return nil
		}
	}
	return err
}
