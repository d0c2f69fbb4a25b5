package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// kernelFamily is the number of generic netlink that the played kernel has for IPVS.
const kernelFamily = 0x21

// played is an exchanger that plays a kernel: answers are by the turn of a request, counted over
// all sockets from 1.
type played struct {
	refuse  map[int]syscall.Errno
	lose    map[int]bool // nothing is said of these
	overrun bool         // the queue of answers overflows
	dumps   [][]message  // one for each dump that is asked for

	turn    int
	batches []int // how many requests each one held
	opened  int
	answers []message
}

func (k *played) dial() (exchanger, error) { k.opened++; return k, nil }
func (k *played) close() error             { k.answers = nil; return nil }

func (k *played) send(messages []byte) error {
	k.batches = append(k.batches, 0)
	for len(messages) > 0 {
		length := binary.NativeEndian.Uint32(messages)
		flags, sequence := binary.NativeEndian.Uint16(messages[6:]), binary.NativeEndian.Uint32(messages[8:])
		messages = messages[length:]
		k.turn++
		k.batches[len(k.batches)-1]++
		if flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			for _, m := range k.dumps[0] {
				m.sequence = sequence
				k.answers = append(k.answers, m)
			}
			k.dumps = k.dumps[1:]
			continue
		}
		number := k.refuse[k.turn]
		if (number != 0 || flags&unix.NLM_F_ACK != 0) && !k.lose[k.turn] {
			k.answers = append(k.answers, says(sequence, number))
		}
	}
	return nil
}

// says is a message of kind NLMSG_ERROR.
func says(sequence uint32, number syscall.Errno) message {
	return message{kind: unix.NLMSG_ERROR, sequence: sequence, payload: binary.NativeEndian.AppendUint32(nil, uint32(-int32(number)))}
}

func (k *played) each(_ context.Context, _ time.Time, visit func(message) (bool, error)) error {
	if k.overrun {
		k.overrun = false
		return unix.ENOBUFS
	}
	// What an earlier exchange left behind is not for this one.
	if _, err := visit(says(^uint32(0), syscall.EIO)); err != nil {
		return err
	}
	for len(k.answers) > 0 {
		m := k.answers[0]
		k.answers = k.answers[1:]
		if more, err := visit(m); err != nil || !more {
			return err
		}
	}
	return ErrTimeout
}

func (k *played) table(t *testing.T) *Table {
	t.Helper()
	table, err := openPipeline(k.dial, kernelFamily, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// servers gives operations on a virtual server and n real servers of it.
func servers(verb plan.Verb, n int) []plan.Op {
	ops := []plan.Op{{Verb: verb, Key: virtual, Value: plan.Value{Scheduler: "rr"}}}
	for i := range n {
		key := real
		key.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), 8080)
		ops = append(ops, plan.Op{Verb: verb, Key: key, Value: plan.Value{Weight: 1}})
	}
	return ops
}

// firstBatch gives the same error for each operation of a batch.
func firstBatch(err error) map[int]error {
	errs := map[int]error{}
	for i := range perBatch {
		errs[i] = err
	}
	return errs
}

func TestErrorsAreThoseOfTheirOperations(t *testing.T) {
	for name, test := range map[string]struct {
		kernel  *played
		ops     []plan.Op
		failed  map[int]error // by index of the operation
		batches []int
		opened  int
	}{
		"all is well": {&played{}, servers(plan.Add, 3), nil, []int{4}, 1},
		"more than a batch": {
			&played{}, servers(plan.Add, 2*perBatch), nil, []int{perBatch, perBatch, 1}, 1,
		},
		"one in the middle": {
			&played{refuse: map[int]syscall.Errno{2: syscall.ENOMEM}}, servers(plan.Add, 3), map[int]error{1: syscall.ENOMEM}, []int{4}, 1,
		},
		"the last one": {
			&played{refuse: map[int]syscall.Errno{4: syscall.ENOMEM}}, servers(plan.Add, 3), map[int]error{3: syscall.ENOMEM}, []int{4}, 1,
		},
		"some that are there": {
			&played{refuse: map[int]syscall.Errno{1: syscall.EEXIST, 3: syscall.EEXIST}}, servers(plan.Add, 3), nil, []int{4, 2}, 1,
		},
		"a virtual server that is not, and so none of its real servers": {
			&played{refuse: map[int]syscall.Errno{1: syscall.ESRCH, 2: syscall.ESRCH, 3: syscall.ESRCH, 5: syscall.ENOENT, 6: syscall.ENOENT}},
			servers(plan.Update, 2),
			nil,
			[]int{3, 3, 2},
			1,
		},
		"a virtual server that cannot be, and so none of its real servers": {
			&played{refuse: map[int]syscall.Errno{1: syscall.ENOENT, 2: syscall.ESRCH, 3: syscall.ESRCH}},
			servers(plan.Add, 2),
			map[int]error{0: syscall.ENOENT, 1: ErrNoVirtualServer, 2: ErrNoVirtualServer},
			[]int{3},
			1,
		},
		"deleting what is gone": {
			&played{refuse: map[int]syscall.Errno{1: syscall.ESRCH, 2: syscall.ENOENT, 3: syscall.ESRCH}}, servers(plan.Delete, 2), nil, []int{3}, 1,
		},
		"a lost acknowledgement leaves open what was done": {
			&played{refuse: map[int]syscall.Errno{2: syscall.ENOMEM}, lose: map[int]bool{3: true}},
			servers(plan.Add, 2),
			map[int]error{0: ErrTimeout, 1: syscall.ENOMEM, 2: ErrTimeout},
			[]int{3},
			1,
		},
		"answers that found no room": {
			&played{overrun: true}, servers(plan.Add, perBatch),
			firstBatch(unix.ENOBUFS),
			[]int{perBatch, 1},
			2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			errs := test.kernel.table(t).Do(t.Context(), test.ops...)
			for i, err := range errs {
				if want := test.failed[i]; !errors.Is(err, want) {
					t.Errorf("operation %d: %v, want %v", i, err, want)
				}
			}
			if !slices.Equal(test.kernel.batches, test.batches) || test.kernel.opened != test.opened {
				t.Errorf("batches %v on %d sockets, want %v on %d", test.kernel.batches, test.kernel.opened, test.batches, test.opened)
			}
		})
	}
}

func TestSocketIsReplacedAfterALostAcknowledgement(t *testing.T) {
	kernel := &played{lose: map[int]bool{1: true}}
	table := kernel.table(t)
	if err := do(t.Context(), table, plan.Op{Verb: plan.Add, Key: virtual}); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	if err := do(t.Context(), table, plan.Op{Verb: plan.Add, Key: virtual}); err != nil || kernel.opened != 2 {
		t.Errorf("after that: %v, %d sockets", err, kernel.opened)
	}
}

// listed is a message that lists a virtual server.
func listed(key plan.Key, flags uint16) message {
	var e encoder
	at := e.begin(kernelFamily, 0, 0, commandNewService)
	e.service(key, &plan.Value{Scheduler: "rr"})
	e.end(at)
	return message{kind: kernelFamily, flags: flags, payload: e.buffer[unix.SizeofNlMsghdr:]}
}

func TestInterruptedListIsMadeAgain(t *testing.T) {
	other := virtual
	other.Port = 81
	done := message{kind: unix.NLMSG_DONE, payload: make([]byte, 4)}
	late := done
	late.flags = unix.NLM_F_DUMP_INTR
	for name, test := range map[string]struct {
		dumps [][]message
		want  []plan.Key
		err   error
	}{
		"never":       {[][]message{{listed(virtual, 0), done}}, []plan.Key{virtual}, nil},
		"once":        {[][]message{{listed(other, unix.NLM_F_DUMP_INTR), done}, {listed(virtual, 0), done}}, []plan.Key{virtual}, nil},
		"at the end":  {[][]message{{listed(other, 0), late}, {listed(virtual, 0), done}}, []plan.Key{virtual}, nil},
		"always":      {slices.Repeat([][]message{{listed(virtual, 0), late}}, dumpTries), nil, ErrInterrupted},
		"refused":     {[][]message{{says(0, syscall.EPERM)}}, nil, syscall.EPERM},
		"failed late": {[][]message{{listed(virtual, 0), {kind: unix.NLMSG_DONE, payload: says(0, syscall.ENOMEM).payload}}}, nil, syscall.ENOMEM},
	} {
		t.Run(name, func(t *testing.T) {
			kernel := &played{dumps: test.dumps}
			got, err := kernel.table(t).VirtualServers(t.Context())
			if !errors.Is(err, test.err) || len(got) != len(test.want) || len(kernel.dumps) != 0 {
				t.Errorf("got %v, error %v, %d dumps left; want %v, %v", got, err, len(kernel.dumps), test.want, test.err)
			}
			for _, key := range test.want {
				if _, is := got[key]; !is {
					t.Errorf("no %s in\n%s", key, got)
				}
			}
		})
	}
}

// Whatever octets there are, reading them ends and crashes nothing.
func FuzzDecode(f *testing.F) {
	f.Add(listed(virtual, 0).payload)
	f.Add(listed(plan.MarkKey(plan.VirtualServer, 0x01000001, true), 0).payload)
	var e encoder
	at := e.begin(kernelFamily, 0, 0, commandNewDest)
	e.dest(real, &plan.Value{Weight: 3})
	e.end(at)
	f.Add(e.buffer[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, payload []byte) {
		if key, _, ok := decodeService(payload); ok && !key.Addr.IsValid() {
			t.Errorf("%s without an address", key)
		}
		if key, _, _, ok := decodeDest(payload, virtual); ok && !key.Endpoint.Addr().IsValid() {
			t.Errorf("%s without an address", key)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	var e encoder
	requests := []request{{plan.Add, virtual, plan.Value{Scheduler: "rr"}}, {plan.Add, real, plan.Value{Weight: 1}}}
	b.ReportAllocs()
	for b.Loop() {
		e.buffer = e.buffer[:0]
		for i, r := range requests {
			e.request(kernelFamily, 0, uint32(i), r)
		}
	}
}

// BenchmarkWrite adds and removes many servers, by both ways to the kernel.
func BenchmarkWrite(b *testing.B) {
	needKernel(b)
	for _, way := range []struct {
		name string
		open func(time.Duration, *slog.Logger) (*Table, error)
	}{{"many at once", Open}, {"one by one", OpenMoby}} {
		for _, n := range []int{1, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", way.name, n), func(b *testing.B) {
				table, err := way.open(10*time.Second, slog.Default())
				if err != nil {
					b.Fatal(err)
				}
				defer table.Close()
				add, remove := servers(plan.Add, n-1), servers(plan.Delete, n-1)
				slices.Reverse(remove)
				b.ReportAllocs()
				for b.Loop() {
					if err := errors.Join(append(table.Do(b.Context(), add...), table.Do(b.Context(), remove...)...)...); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(2*n), "ns/server")
			})
		}
	}
}
