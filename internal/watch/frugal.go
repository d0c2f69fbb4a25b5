package watch

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// frugalPercent is the garbage collector's target (GOGC) while a list is read. Decoding
// a list makes several times its own size of garbage, and with the usual 100 a server
// would hold twice the memory during a relist than it needs otherwise.
const frugalPercent = 20

// firstPercent is that target while an eager source reads everything for the first time, unless the
// environment has another one: a small heap that grows would be gone through again and again.
const firstPercent = 50

// settleTime is how long after a list memory is given back: what the reflector used for
// it is still referred to when the list is handed over.
const settleTime = 2 * time.Second

// reading counts the lists that are being read in this process, because the collector is
// that of the process too.
var reading frugality

// frugality keeps memory low while lists are read, and gives what was used for them back
// to the system afterwards.
type frugality struct {
	// mu guards what follows.
	mu    sync.Mutex
	lists int
	// frugal is true while the target is lowered; usual is what it was before.
	frugal bool
	usual  int
}

func (f *frugality) begin(first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	if f.frugal {
		return
	}
	f.frugal = true
	if first && os.Getenv("GOGC") == "" {
		f.usual = debug.SetGCPercent(firstPercent)
		return
	}
	f.usual = debug.SetGCPercent(frugalPercent)
	if f.usual >= 0 && f.usual < frugalPercent { // somebody wants it lower still
		debug.SetGCPercent(f.usual)
	}
}

func (f *frugality) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lists--; f.lists == 0 {
		time.AfterFunc(settleTime, f.settle)
	}
}

// settle ends frugality, unless another list has begun meanwhile.
func (f *frugality) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lists == 0 && f.frugal {
		f.frugal = false
		debug.SetGCPercent(f.usual)
		debug.FreeOSMemory()
	}
}

// listing is whether one sink reads a list. It is safe for concurrent use: a reflector
// lists in a goroutine of its own, and does not wait for it when it is stopped.
type listing struct {
	// mu guards under.
	mu    sync.Mutex
	under bool
}

func (l *listing) begin(first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.under {
		l.under = true
		reading.begin(first)
	}
}

func (l *listing) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under {
		l.under = false
		reading.end()
	}
}
