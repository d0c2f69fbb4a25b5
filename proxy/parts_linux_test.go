package proxy

import (
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/plan"
)

// TestASetIsReadInLargeParts counts the parts in which the kernel lists a set. For each it goes through the
// set from its beginning, so they are to be as large as it makes them: 32 KiB, some 900 elements, and
// not a page, some 150.
func TestASetIsReadInLargeParts(t *testing.T) {
	needKernel(t)
	const elements, perPart, besides = 10000, 600, 6
	namespace := netns.New(t)
	whole := plan.Plan{}
	for i := range elements {
		service, _ := numbered(i, model.TCP, 0)
		whole[plan.Key{Kind: plan.Divert, Protocol: model.TCP, Addr: service.ClusterIPs[0], Port: 80}] = plan.Value{}
	}
	var kernel *dataplane.Kernel
	namespace.Do(func() {
		var err error
		if kernel, err = dataplane.Open(dataplane.Options{IPv4: true, IPv6: true}); err != nil {
			t.Fatal(err)
		}
		if err = kernel.Setup(t.Context()); err == nil {
			_, err = kernel.Apply(t.Context(), plan.Diff(nil, whole))
		}
		if err != nil {
			t.Error(err)
		}
	})
	defer kernel.Close()
	messages := newEar(t, namespace).during(func() {
		namespace.Do(func() {
			if read, err := kernel.ObserveKind(t.Context(), plan.Divert); err != nil || len(read) != elements {
				t.Errorf("%d elements read, want %d, error %v", len(read), elements, err)
			}
		})
	})
	if messages.received > elements/perPart+besides {
		t.Errorf("%+v netlink messages for %d elements", messages, elements)
	}
}
