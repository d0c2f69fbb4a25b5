package proxy

import (
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
)

// TestASetIsReadInLargeParts counts the parts in which the kernel lists a set that is read as a whole. For each
// it goes through the set from its beginning, so they are to be as large as it makes them: 32 KiB, some 900
// elements, and not a page, some 150. To set up the table again reads none.
func TestASetIsReadInLargeParts(t *testing.T) {
	needKernel(t)
	const elements, perPart = 10000, 600
	namespace := netns.New(t)
	var kernel *dataplane.Kernel
	do := func(f func() error) {
		t.Helper()
		var err error
		namespace.Do(func() { err = f() })
		if err != nil {
			t.Fatal(err)
		}
	}
	do(func() (err error) {
		kernel, err = dataplane.Open(dataplane.Options{IPv4: true, IPv6: true})
		return err
	})
	defer kernel.Close()
	do(func() error { return kernel.Setup(t.Context()) })
	ear := newEar(t, namespace)
	observe := func() (read plan.Plan, messages heard) {
		messages = ear.during(func() {
			do(func() (err error) {
				read, err = kernel.Observe(t.Context())
				return err
			})
		})
		return read, messages
	}
	setup := func() heard { return ear.during(func() { do(func() error { return kernel.Setup(t.Context()) }) }) }
	_, without := observe()
	empty := setup()
	whole := plan.Plan{}
	for i := range elements {
		service, _ := numbered(i, model.TCP, 0)
		whole[plan.Key{Kind: plan.Divert, Protocol: model.TCP, Addr: service.ClusterIPs[0], Port: 80}] = plan.Value{}
	}
	do(func() error {
		_, err := kernel.Apply(t.Context(), plan.Diff(nil, whole))
		return err
	})
	read, with := observe()
	if len(read) != elements {
		t.Errorf("%d elements read, want %d", len(read), elements)
	}
	if parts := with.received - without.received; parts > elements/perPart {
		t.Errorf("%d elements in %d parts", elements, parts)
	}
	if full := setup(); full.received > empty.received {
		t.Errorf("%d elements add %d netlink messages to setting up the table again", elements, full.received-empty.received)
	}
}
