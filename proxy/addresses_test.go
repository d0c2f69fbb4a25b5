package proxy

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSelectAddresses(t *testing.T) {
	var found []net.Addr
	for _, text := range []string{"127.0.0.1/8", "::1/128", "fe80::1/64", "172.30.0.11/24", "172.30.0.11/32", "192.168.1.4/16", "fd00::11/64", "169.254.1.1/32"} {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	tests := []struct {
		name    string
		allowed []netip.Prefix
		want    []string
	}{
		{"all that others can reach", nil, []string{"172.30.0.11", "192.168.1.4", "fd00::11"}},
		{"those of one network", []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, []string{"192.168.1.4"}},
		{"none of a network that is not there", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, address := range selectAddresses(found, test.allowed) {
				got = append(got, address.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
