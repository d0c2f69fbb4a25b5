// Package nft keeps the one nftables table of Mooring: constant chains and rules, and
// sets whose elements say what to do for which Service port.
//
// It promises that each transaction is atomic and bounded in time, that the table's
// elements survive a restart and an upgrade, and that other tables are never touched.
// The socket belongs to the network namespace of the thread that needed it first. It is
// kept as long as all goes well: the kernel makes whoever closes one wait until what the
// last transactions deleted is freed (nft_rcv_nl_event, nf_tables_api.c). After an error
// it is replaced, so that a late answer cannot be taken for that of another question.
package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// ErrNoTable says that our table is gone or not ours any more: Setup makes it anew.
var ErrNoTable = errors.New("table inet " + TableName + " is missing: it has to be set up again")

const (
	// bufferBytes is room for a transaction with a million elements, as when a table of another
	// version is replaced; the kernel takes memory for what is sent alone.
	bufferBytes = 32 << 20
	// elementsPerMessage keeps the attribute that lists them below 64 KiB.
	elementsPerMessage = 1000
	// setupTimeout is for the first transaction: the kernel loads a module for each kind
	// of expression it has not seen yet.
	setupTimeout = time.Minute
	// partBytes is the most that the kernel puts into one part of a list (netlink_recvmsg, af_netlink.c).
	partBytes = 32 << 10
	// readTimeout is for a whole set, which an emulated kernel needed seconds for at 50,000 elements.
	readTimeout = time.Minute
)

// Table is our table in the kernel. It is not safe for concurrent use.
type Table struct {
	config  Config
	timeout time.Duration
	table   *nftables.Table
	sets    map[string]*nftables.Set
	// timeouts are those of the groups in the kernel, as far as we made or read them.
	timeouts timeouts

	conn    *nftables.Conn
	socket  *netlink.Conn
	listing listing
	// port is that of the socket, as the kernel names who made a change.
	port atomic.Uint32
}

// New gives the table, whether it is in the kernel yet or not.
func New(config Config, timeout time.Duration) *Table {
	table := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	return &Table{config: config, timeout: timeout, table: table, sets: sets(table), timeouts: newTimeouts(nil)}
}

// Close closes the sockets.
func (t *Table) Close() error { return errors.Join(t.hangUp(), t.listing.close()) }

// hangUp closes the socket of transactions.
func (t *Table) hangUp() error {
	if t.conn == nil {
		return nil
	}
	conn := t.conn
	t.conn, t.socket = nil, nil
	return conn.CloseLasting()
}

// do makes one exchange with the kernel within the usual deadline.
func (t *Table) do(ctx context.Context, exchange func(conn *nftables.Conn) error) error {
	return t.doWithin(ctx, t.timeout, exchange)
}

func (t *Table) doWithin(ctx context.Context, timeout time.Duration, exchange func(conn *nftables.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.dial(); err != nil {
		return fmt.Errorf("nft socket: %w", err)
	}
	deadline := time.Now().Add(timeout)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	err := t.socket.SetDeadline(deadline)
	if err == nil {
		err = exchange(t.conn)
	}
	if err != nil {
		// What the socket or the queue still holds belongs to this exchange; that
		// closing goes wrong too would be no news.
		_ = t.hangUp()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // once for each message of a transaction
		return fmt.Errorf("no acknowledgement from the kernel within %s: %w", timeout, os.ErrDeadlineExceeded)
	}
	return err
}

func (t *Table) dial() error {
	if t.conn != nil {
		return nil
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		t.socket = c
		return errors.Join(c.SetWriteBuffer(bufferBytes), c.SetReadBuffer(bufferBytes))
	}))
	if err != nil {
		return err
	}
	t.conn = conn
	if err := errors.Join(t.learnPort(), t.widen()); err != nil {
		return errors.Join(err, t.hangUp())
	}
	return nil
}

// learnPort reads the socket's port from the kernel.
func (t *Table) learnPort() error {
	return t.control(func(fd int) error {
		address, err := unix.Getsockname(fd)
		if err == nil {
			t.port.Store(address.(*unix.SockaddrNetlink).Pid)
		}
		return err
	})
}

// widen has the kernel make the parts of a list as large as it can. It makes them as large as the largest
// buffer with which somebody has ever read something from the socket (nlk->max_recvmsg_len, af_netlink.c),
// netlink's has one page, and for each part the kernel goes through the set from its beginning
// (nf_tables_dump_set, nf_tables_api.c). What is read is the answer to a small question, whatever it is.
func (t *Table) widen() error {
	if _, err := t.socket.Send(generationRequest); err != nil {
		return err
	}
	return t.control(func(fd int) error {
		_, _, err := unix.Recvfrom(fd, make([]byte, partBytes), unix.MSG_DONTWAIT) // it is there when Send returns
		return err
	})
}

// control calls f with the socket's file descriptor.
func (t *Table) control(f func(fd int) error) error {
	raw, err := t.socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	return errors.Join(raw.Control(func(fd uintptr) { failed = f(int(fd)) }), failed)
}

// Port gives the netlink port of the changes that this Table makes; 0 before the first one. It
// may be called from any goroutine.
func (t *Table) Port() uint32 { return t.port.Load() }

// Probe finds out whether nftables answers at all.
func (t *Table) Probe(ctx context.Context) error {
	_, err := t.exists(ctx)
	return err
}

// Setup makes the table's sets, chains and rules what they have to be, in one
// transaction. Elements stay.
func (t *Table) Setup(ctx context.Context) error {
	exists, err := t.exists(ctx)
	if err != nil {
		return err
	}
	current, err := t.current(ctx)
	if err != nil {
		return err
	}
	if !exists || current {
		// Only what follows from elements is written anew with the rules: the large sets need not be read.
		err = t.writeWith(ctx, exists, false, wholeKinds)
		if !exists || err == nil {
			return err
		}
	}
	// Another version's table, or one of ours that somebody changed.
	return t.writeWith(ctx, exists, true, elementKinds)
}

// Lacking tells in words that the table is missing or another version's; nil if it is ours.
func (t *Table) Lacking(ctx context.Context) ([]string, error) {
	current, err := t.current(ctx)
	if err != nil || current {
		return nil, err
	}
	return []string{"nft table inet " + TableName + " is missing, or another version's"}, nil
}

// writeWith writes the whole table, with the elements of some kinds that there are.
func (t *Table) writeWith(ctx context.Context, exists, replace bool, kinds []plan.Kind) error {
	kept, err := t.read(ctx, exists, kinds)
	if err != nil {
		return err
	}
	return t.write(ctx, replace, kept)
}

// write writes the whole table, with the elements given if an old one is replaced.
func (t *Table) write(ctx context.Context, replace bool, kept plan.Plan) error {
	t.timeouts = newTimeouts(kept)
	unneeded, err := t.unneeded(ctx)
	if err != nil {
		return err
	}
	err = t.doWithin(ctx, setupTimeout, func(conn *nftables.Conn) error {
		if replace {
			conn.DelTable(t.table)
			unneeded = nil
		}
		if err := t.addSkeleton(conn); err != nil {
			return err
		}
		if replace {
			if err := t.addElements(conn, kept); err != nil {
				return err
			}
		}
		for _, timeout := range unneeded {
			skeleton{conn, t.table, t.config}.forget(timeout)
		}
		if err := t.addCovers(conn, kept); err != nil {
			return err
		}
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("table inet %s: %w", TableName, err)
	}
	return nil
}

// addSkeleton queues everything besides elements.
func (t *Table) addSkeleton(conn *nftables.Conn) error {
	conn.AddTable(t.table)
	for _, name := range slices.Sorted(maps.Keys(t.sets)) {
		if err := conn.AddSet(t.sets[name], nil); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	conn.FlushTable(t.table)
	s := skeleton{conn, t.table, t.config}
	s.write()
	for timeout := range t.timeouts.groups {
		s.remember(timeout)
	}
	return nil
}

// onTheWay is how long a packet may be between two hooks, with plenty of room.
const onTheWay = time.Second

// Silence removes all rules, so that nothing is done to packets any more. The sets stay, with the
// knowledge what is ours. First nothing is marked any more, and then, when what had been is through,
// the rest goes: a packet that kept the mark which leads it to the host would come back to it for ever.
func (t *Table) Silence(ctx context.Context) error {
	exists, err := t.exists(ctx)
	if err != nil || !exists {
		return err
	}
	for _, flush := range []func(*nftables.Conn){
		func(conn *nftables.Conn) {
			for _, chain := range []string{"prerouting", "translated", "output"} {
				conn.FlushChain(&nftables.Chain{Table: t.table, Name: chain})
			}
		},
		func(conn *nftables.Conn) { conn.FlushTable(t.table) },
	} {
		err := t.do(ctx, func(conn *nftables.Conn) error {
			flush(conn)
			return conn.Flush()
		})
		if err != nil {
			return fmt.Errorf("rules of table inet %s: %w", TableName, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(onTheWay):
		}
	}
	return nil
}

// Cleanup removes the table.
func (t *Table) Cleanup(ctx context.Context) error {
	exists, err := t.exists(ctx)
	if err != nil || !exists {
		return err
	}
	err = t.do(ctx, func(conn *nftables.Conn) error {
		conn.DelTable(t.table)
		return conn.Flush()
	})
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("delete table inet %s: %w", TableName, err)
	}
	return nil
}

// Observe reads every element back. Prefixes whose intervals do not cover them are
// left out, so that adding them repairs the intervals.
func (t *Table) Observe(ctx context.Context) (plan.Plan, error) {
	exists, err := t.exists(ctx)
	if err != nil || !exists {
		return plan.Plan{}, err
	}
	return t.ObserveKinds(ctx, elementKinds...)
}

// ObserveKinds reads the elements of some kinds back; none if the table is missing.
func (t *Table) ObserveKinds(ctx context.Context, kinds ...plan.Kind) (plan.Plan, error) {
	result, err := t.read(ctx, true, kinds)
	if err != nil {
		return nil, err
	}
	if slices.Contains(kinds, plan.AffinityTimeout) {
		t.timeouts = newTimeouts(result)
	}
	return result, t.dropUncovered(ctx, result, kinds)
}

func (t *Table) exists(ctx context.Context) (bool, error) {
	var tables []*nftables.Table
	err := t.do(ctx, func(conn *nftables.Conn) (err error) {
		tables, err = conn.ListTablesOfFamily(nftables.TableFamilyINet)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("list nft tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(other *nftables.Table) bool { return other.Name == TableName }), nil
}

// current tells whether the table is there and has our layout.
func (t *Table) current(ctx context.Context) (bool, error) {
	chains, err := t.chains(ctx)
	return slices.Contains(chains, layoutMarker), err
}

// chains gives the names of the table's chains.
func (t *Table) chains(ctx context.Context) ([]string, error) {
	var chains []*nftables.Chain
	err := t.do(ctx, func(conn *nftables.Conn) (err error) {
		chains, err = conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	var names []string
	for _, c := range chains {
		if c.Table.Name == TableName {
			names = append(names, c.Name)
		}
	}
	return names, nil
}

// read reads the elements of the sets of some kinds, again if a transaction has come between, of which
// a list may show a half. One of other software, which may come all the time, does not touch our
// sets: so the last list counts in any case. A set that is not there, or is another version's and
// holds something else, has none.
func (t *Table) read(ctx context.Context, exists bool, kinds []plan.Kind) (result plan.Plan, err error) {
	if !exists {
		return plan.Plan{}, nil
	}
	return undisturbed(func() (uint32, error) { return t.generation(ctx) }, func() (plan.Plan, error) { return t.readOnce(ctx, kinds) })
}

func (t *Table) readOnce(ctx context.Context, kinds []plan.Kind) (plan.Plan, error) {
	result := plan.Plan{}
	for _, f := range []family{ipv4, ipv6} {
		for _, kind := range kinds {
			elements, err := t.elements(ctx, listName(kind, f))
			if err != nil {
				return nil, err
			}
			for _, e := range elements {
				if key, err := decode(kind, f, e.Key); err == nil {
					result[key] = value(kind, e)
				}
			}
		}
	}
	return result, nil
}

func (t *Table) elements(ctx context.Context, set string) ([]nftables.SetElement, error) {
	var elements []nftables.SetElement
	err := t.doWithin(ctx, readTimeout, func(conn *nftables.Conn) (err error) {
		elements, err = conn.GetSetElements(t.sets[set])
		return err
	})
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("read set %s: %w", set, err)
	}
	return elements, nil
}

// missing recognises "no such set". nftables formats some errors by their text alone.
func missing(err error) bool {
	return errors.Is(err, syscall.ENOENT) || err.Error() == "receiveAckAware: netlink receive: no such file or directory"
}

func (t *Table) dropUncovered(ctx context.Context, p plan.Plan, kinds []plan.Kind) error {
	for _, f := range []family{ipv4, ipv6} {
		for _, kind := range intervalKinds {
			if !slices.Contains(kinds, kind) {
				continue
			}
			elements, err := t.elements(ctx, coverName(kind, f))
			if err != nil {
				return err
			}
			want := admitted(p, f)
			if kind != plan.FirewallAllow {
				want = intervals(prefixes(p, kind, f))
			}
			if !sameElements(elements, want) {
				maps.DeleteFunc(p, func(k plan.Key, _ plan.Value) bool { return k.Kind == kind && k.IPv6() == f.ipv6 })
			}
		}
	}
	return nil
}

// prefixes gives the prefixes of a kind and family in a plan.
func prefixes(p plan.Plan, kind plan.Kind, f family) []netip.Prefix {
	var result []netip.Prefix
	for key := range p {
		if key.Kind == kind && key.IPv6() == f.ipv6 {
			result = append(result, key.Prefix())
		}
	}
	return result
}

func intervals(list []netip.Prefix) []nftables.SetElement {
	var result []nftables.SetElement
	for _, p := range cover(list) {
		result = append(result, interval(p)...)
	}
	return result
}

// sameElements compares interval elements, whatever their order. The kernel adds an
// end of its own at the first address there is.
func sameElements(a, b []nftables.SetElement) bool {
	text := func(elements []nftables.SetElement) []string {
		var result []string
		for _, e := range elements {
			if addr, _ := netip.AddrFromSlice(e.Key); e.IntervalEnd && addr.IsUnspecified() {
				continue
			}
			result = append(result, fmt.Sprintf("%x-%x %t", e.Key, e.KeyEnd, e.IntervalEnd))
		}
		slices.Sort(result)
		return result
	}
	return slices.Equal(text(a), text(b))
}
