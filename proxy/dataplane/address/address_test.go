package address_test

import (
	"context"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane/address"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatch(t *testing.T) {
	namespace := netns.New(t)
	changed, done := make(chan struct{}, 16), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go namespace.Do(func() { done <- address.Watch(ctx, func() { changed <- struct{}{} }) })
	wait := func(when string) {
		t.Helper()
		select {
		case <-changed:
		case err := <-done:
			t.Fatalf("%s: Watch ended: %v", when, err)
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: nothing seen", when)
		}
	}
	wait("at the start")
	for _, text := range []string{"172.30.0.11/24", "fd00:172:30::11/64"} {
		ip, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		namespace.Do(func() {
			loopback, err := netlink.LinkByName("lo")
			if err != nil {
				t.Error(err)
				return
			}
			if err := netlink.AddrAdd(loopback, ip); err != nil {
				t.Error(err)
				return
			}
			wait("added " + text)
			if err := netlink.AddrDel(loopback, ip); err != nil {
				t.Error(err)
			}
		})
		wait("deleted " + text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
}
