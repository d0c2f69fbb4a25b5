package proxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestServicesByTheNameOfTheirProxy(t *testing.T) {
	for what, tt := range map[string]struct {
		flags   []string
		service string
		served  bool
	}{
		"no name, the Service has none":     {nil, "", true},
		"no name, the Service is another's": {nil, "mooring", false},
		"a name, the Service has it":        {[]string{"--service-proxy-name=mooring"}, "mooring", true},
		"a name, the Service is another's":  {[]string{"--service-proxy-name=mooring"}, "other", false},
		"a name, the Service has none":      {[]string{"--service-proxy-name=mooring"}, "", false},
	} {
		t.Run(what, func(t *testing.T) {
			command, err := config.Parse(append(tt.flags, "--hostname-override=node-1"))
			if err != nil {
				t.Fatal(err)
			}
			service := &model.Service{ProxyName: tt.service, Type: model.ClusterIP}
			skip := planContext(command.Config).Skip(service)
			left := skip == "left to the proxy named "+tt.service
			if left == tt.served {
				t.Errorf("%q", skip)
			}
		})
	}
}

// Whoever serves but the Services of one name, in a trial beside kube-proxy, does not know which
// addresses of the range are nobody's.
func TestAProxyWithANameRefusesNoRange(t *testing.T) {
	store := state.NewStore()
	services := netip.MustParsePrefix("10.96.0.0/16")
	store.Update(time.Time{}, func(txn *state.Txn) { txn.SetServiceCIDRs([]netip.Prefix{services}) })
	for name, want := range map[string]bool{"": true, "mooring": false} {
		command, err := config.Parse([]string{"--hostname-override=node-1", "--service-proxy-name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		cluster := planContext(command.Config).Cluster(store.Load())
		if _, got := cluster[plan.PrefixKey(plan.ServiceCIDR, services)]; got != want {
			t.Errorf("name %q: the range is refused: %t", name, got)
		}
	}
}
