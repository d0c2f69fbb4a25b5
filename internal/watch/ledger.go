package watch

import (
	"hash/maphash"
	"strconv"
	"sync"
)

// opaque marks a resource version that is no number. All that API servers with etcd
// behind them give are numbers below it, and grow (KEP-5504).
const opaque = 1 << 63

var ledgerSeed = maphash.MakeSeed()

// fingerprint stands for a key in a ledger: two of a hundred thousand keys share one in
// one of four billion processes, and then an audit overlooks one of them.
func fingerprint(key objectKey) uint64 { return maphash.Comparable(ledgerSeed, key) }

// parseVersion makes a number of a resource version. An empty one, of an object that
// nobody asked the server for, is 0.
func parseVersion(version string) uint64 {
	if version == "" {
		return 0
	}
	if n, err := strconv.ParseUint(version, 10, 63); err == nil {
		return n
	}
	return opaque | maphash.String(ledgerSeed, version)
}

// number gives a version that can be compared with others; 0 for one that cannot.
func number(version uint64) uint64 {
	if version >= opaque {
		return 0
	}
	return version
}

// A ledger notes which version of each object of one kind was last heard of, in 16 bytes
// for each: what an audit compares with. The zero ledger has heard of nothing. It is safe
// for concurrent use.
type ledger struct {
	// mu guards what follows.
	mu sync.Mutex
	// seen has the version by fingerprint; nil before the first complete list.
	seen map[uint64]uint64
	// newest is the greatest version since the last complete list.
	newest uint64
	// doubts counts the objects that an audit wants the next list to repair.
	doubts int
}

// put notes the version of an object.
func (l *ledger) put(key objectKey, version uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		return
	}
	l.seen[fingerprint(key)] = version
	l.newest = max(l.newest, number(version))
}

// remove notes that an object is gone.
func (l *ledger) remove(key objectKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, fingerprint(key))
}

// replace notes a complete list. It tells how many doubts that has settled.
func (l *ledger) replace(seen map[uint64]uint64) (settled int) {
	var newest uint64
	for _, version := range seen {
		newest = max(newest, number(version))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	settled = l.doubts
	l.seen, l.newest, l.doubts = seen, newest, 0
	return settled
}

// begin tells whether there is anything to compare with, and the newest version in it.
// While a list is to settle doubts there is not.
func (l *ledger) begin() (newest uint64, ready bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest, l.seen != nil && l.doubts == 0
}

// version gives what was last heard of an object; 0 if nothing was, or that it is gone.
func (l *ledger) version(of uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[of]
}

// each visits all objects.
func (l *ledger) each(visit func(of, version uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, version := range l.seen {
		visit(of, version)
	}
}

// doubt notes that n objects differ from what the server has.
func (l *ledger) doubt(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts = n
}

// doubted tells whether the next list has something to repair.
func (l *ledger) doubted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubts > 0
}
