package dataplane

import (
	"errors"
	"syscall"
	"testing"
)

func TestOptions(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		ok      bool
	}{
		"one family is enough":          {Options{IPv6: true}, true},
		"no family":                     {Options{}, false},
		"two bits":                      {Options{IPv4: true, DivertMark: 0x3}, false},
		"the same bit twice":            {Options{IPv4: true, DivertMark: 0x4000}, false},
		"a bit of second views":         {Options{IPv4: true, DivertMark: 0x01000000}, false},
		"no name of an interface":       {Options{IPv4: true, PodInterface: "*"}, false},
		"too long a name":               {Options{IPv4: true, PodInterface: "abcdefghijklmnop"}, false},
		"a beginning of names":          {Options{IPv4: true, PodInterface: "veth*"}, true},
		"a bit of one's own":            {Options{IPv4: true, DivertMark: 0x00200000}, true},
		"the kernel's table main":       {Options{IPv4: true, RouteTable: 254}, false},
		"a negative number for a table": {Options{IPv4: true, RouteTable: -1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.options.withDefaults()
			if (err == nil) != test.ok {
				t.Fatalf("error %v, want none: %t", err, test.ok)
			}
			if test.ok && (got.DivertMark == 0 || got.RouteTable == 0 || got.RulePriority == 0 || got.Logger == nil) {
				t.Errorf("without defaults: %+v", got)
			}
		})
	}
}

func TestKernelVersion(t *testing.T) {
	for release, want := range map[string]error{
		"6.12.117+deb12-cloud-amd64": nil, "5.10.0-28-amd64": nil, "10.1": nil, "custom": nil,
		"5.9.16": ErrKernelTooOld, "4.18.0-553.el8": ErrKernelTooOld,
	} {
		if err := checkVersion(release); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", release, err, want)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, test := range []struct{ err, unsupported, want error }{
		{syscall.EPERM, ErrNoNftables, ErrPermission},
		{syscall.EACCES, nil, ErrPermission},
		{syscall.EPROTONOSUPPORT, ErrNoNftables, ErrNoNftables},
		{syscall.EINVAL, nil, syscall.EINVAL},
		{nil, ErrNoNftables, nil},
	} {
		if err := classify(test.err, test.unsupported); !errors.Is(err, test.want) {
			t.Errorf("%v: %v, want %v", test.err, err, test.want)
		}
	}
}
