package ipvs

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
)

func TestTemplatesAreTheLinesOfNoPort(t *testing.T) {
	const text = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0AF40102 0000 0A60000A 0050 0AF40103 1F90 NONE          10799
TCP 0AF40102 C350 0A60000A 0050 0AF40103 1F90 ESTABLISHED     899
UDP fd00:0010:0244:0001:0000:0000:0000:0002 0000 fd00:0010:0096:0000:0000:0000:0000:000a 0035 fd00:0010:0244:0001:0000:0000:0000:0003 14E9 NONE             60
IP  0AF40102 0000 0A60000A 0000 0AF40103 0000 NONE             60
TCP nonsense 0000 0A60000A 0050 0AF40103 1F90 NONE             60
`
	got, err := parseTemplates(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Template{
		{model.TCP, netip.MustParseAddr("10.244.1.2"), netip.MustParseAddrPort("10.96.0.10:80"), netip.MustParseAddrPort("10.244.1.3:8080"), 10799 * time.Second},
		{model.UDP, netip.MustParseAddr("fd00:10:244:1::2"), netip.MustParseAddrPort("[fd00:10:96::a]:53"), netip.MustParseAddrPort("[fd00:10:244:1::3]:5353"), time.Minute},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("templates (-want +got):\n%s", diff)
	}
}
