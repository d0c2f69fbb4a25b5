package route

import (
	"errors"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestAnInterruptedListIsMadeAgain(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []error
		calls   int
		want    error
	}{
		{"at once", []error{nil}, 1, nil},
		{"after two changes by others", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, 3, nil},
		{"others change it all the time", []error{5: nil}, 5, netlink.ErrDumpInterrupted},
		{"refused", []error{syscall.EPERM}, 1, syscall.EPERM},
	} {
		calls := 0
		found, err := whole(func() ([]int, error) {
			calls++
			if test.want == netlink.ErrDumpInterrupted { //nolint:errorlint // the table's own value
				return nil, netlink.ErrDumpInterrupted
			}
			return []int{calls}, test.answers[calls-1]
		})
		if calls != test.calls || !errors.Is(err, test.want) || err == nil && found[0] != calls {
			t.Errorf("%s: %v, error %v after %d calls, want %v after %d", test.name, found, err, calls, test.want, test.calls)
		}
	}
}
