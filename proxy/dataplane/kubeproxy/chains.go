package kubeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// families are those in which iptables and kube-proxy's mode nftables have tables.
var families = map[string]nftables.TableFamily{"ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6}

// iptables has its rules in tables of these names, since it uses nftables.
var iptables = []string{"filter", "nat", "mangle"}

func lookAtTables(ctx context.Context, found *takeover.Found) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	for _, family := range slices.Sorted(maps.Keys(families)) {
		tables, err := conn.ListTablesOfFamily(families[family])
		if err != nil {
			return fmt.Errorf("tables of family %s: %w", family, err)
		}
		for _, table := range tables {
			if table.Name == takeover.TableName {
				found.Tables = append(found.Tables, takeover.Table{Family: family, Name: table.Name})
			}
		}
		chains, err := conn.ListChainsOfTableFamily(families[family])
		if err != nil {
			return fmt.Errorf("chains of family %s: %w", family, err)
		}
		if err := lookAtChains(ctx, family, chains, found); err != nil {
			return err
		}
	}
	return nil
}

// lookAtChains finds kube-proxy's chains of a family, and what leads to them.
func lookAtChains(ctx context.Context, family string, chains []*nftables.Chain, found *takeover.Found) error {
	affected := map[string]bool{}
	for _, chain := range chains {
		if chain.Table.Name == "filter" && chain.Name == "FORWARD" && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
			found.Drops = append(found.Drops, takeover.Table{Family: family, Name: chain.Table.Name})
		}
		if slices.Contains(iptables, chain.Table.Name) && takeover.IsChain(chain.Name) {
			table := takeover.Table{Family: family, Name: chain.Table.Name}
			found.Chains, affected[table.Name] = append(found.Chains, takeover.Chain{Table: table, Chain: chain.Name}), true
		}
	}
	for _, chain := range chains {
		if !affected[chain.Table.Name] || takeover.IsChain(chain.Name) {
			continue
		}
		from := takeover.Chain{Table: takeover.Table{Family: family, Name: chain.Table.Name}, Chain: chain.Name}
		jumps, err := jumpsFrom(ctx, from, chain.Hooknum != nil)
		if err != nil {
			return fmt.Errorf("rules of %s %s: %w", from.Table, from.Chain, err)
		}
		found.Jumps = append(found.Jumps, jumps...)
	}
	return nil
}

// jumpsFrom reads a chain's rules for those that lead to chains of kube-proxy's. The rules are others',
// and may hold anything: only their verdicts are looked at.
func jumpsFrom(ctx context.Context, from takeover.Chain, base bool) ([]takeover.Jump, error) {
	rules, err := ask(ctx, unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETRULE, byte(families[from.Family]), netlink.Dump,
		netlink.Attribute{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(from.Name), 0)},
		netlink.Attribute{Type: unix.NFTA_RULE_CHAIN, Data: append([]byte(from.Chain), 0)})
	if err != nil {
		return nil, err
	}
	var jumps []takeover.Jump
	for _, rule := range rules {
		parts := attributes(rule)
		// Kernels before 4.20 list all chains' rules.
		if text(parts[unix.NFTA_RULE_CHAIN]) != from.Chain || len(parts[unix.NFTA_RULE_HANDLE]) != 8 {
			continue
		}
		each(parts[unix.NFTA_RULE_EXPRESSIONS], func(_ uint16, expression []byte) {
			if to := target(attributes(expression)); takeover.IsChain(to) {
				jumps = append(jumps, takeover.Jump{From: from, Base: base, Handle: binary.BigEndian.Uint64(parts[unix.NFTA_RULE_HANDLE]), To: to})
			}
		})
	}
	return jumps, nil
}

// target gives the chain to which an expression leads: `immediate`, with a verdict that names one.
func target(expression map[uint16][]byte) string {
	if text(expression[unix.NFTA_EXPR_NAME]) != "immediate" {
		return ""
	}
	data := attributes(attributes(expression[unix.NFTA_EXPR_DATA])[unix.NFTA_IMMEDIATE_DATA])
	return text(attributes(data[unix.NFTA_DATA_VERDICT])[unix.NFTA_VERDICT_CHAIN])
}

// removeChains takes away kube-proxy's tables, and in each of iptables' tables, in one transaction, the
// rules that lead to its chains, and the chains.
func removeChains(ctx context.Context, steps takeover.Steps) error {
	var errs []error
	for _, table := range steps.Tables {
		errs = append(errs, transaction(ctx, "delete table "+table.String(), func(conn *nftables.Conn) error {
			conn.DelTable(nftable(table))
			return nil
		}))
	}
	for table, all := range byTable(steps) {
		errs = append(errs, transaction(ctx, "kube-proxy's chains in table "+table.String(), all))
	}
	return errors.Join(errs...)
}

func byTable(steps takeover.Steps) map[takeover.Table]func(*nftables.Conn) error {
	tables := map[takeover.Table]func(*nftables.Conn) error{}
	for _, chain := range steps.Chains {
		tables[chain.Table] = func(conn *nftables.Conn) error { return removeFrom(conn, chain.Table, steps) }
	}
	for _, jump := range steps.Unlink {
		tables[jump.From.Table] = func(conn *nftables.Conn) error { return removeFrom(conn, jump.From.Table, steps) }
	}
	return tables
}

func removeFrom(conn *nftables.Conn, table takeover.Table, steps takeover.Steps) error {
	nft := nftable(table)
	for _, jump := range steps.Unlink {
		if jump.From.Table == table {
			if err := conn.DelRule(&nftables.Rule{Table: nft, Chain: &nftables.Chain{Name: jump.From.Chain}, Handle: jump.Handle}); err != nil {
				return err
			}
		}
	}
	// All are emptied first, since they lead to each other.
	for _, remove := range []func(*nftables.Chain){conn.FlushChain, conn.DelChain} {
		for _, chain := range steps.Chains {
			if chain.Table == table {
				remove(&nftables.Chain{Name: chain.Chain, Table: nft})
			}
		}
	}
	return nil
}

func nftable(table takeover.Table) *nftables.Table {
	return &nftables.Table{Name: table.Name, Family: families[table.Family]}
}

// bufferBytes is room for a transaction with tens of thousands of chains.
const bufferBytes = 32 << 20

func transaction(ctx context.Context, what string, fill func(*nftables.Conn) error) error {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(bufferBytes), c.SetReadBuffer(bufferBytes), c.SetDeadline(deadline(ctx, removalTimeout)))
	}))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = fill(conn)
	if err == nil {
		err = conn.Flush()
	}
	if closing := conn.CloseLasting(); err == nil {
		err = closing
	}
	if isErrno(err, unix.ENOENT) {
		return nil // gone meanwhile
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func deadline(ctx context.Context, timeout time.Duration) time.Time {
	end := time.Now().Add(timeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(end) {
		return limit
	}
	return end
}
