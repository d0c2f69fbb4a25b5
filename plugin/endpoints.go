package mooring

import (
	"strings"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// eachReady goes over the ready endpoints of a Service until visit says false. The
// EndpointSlice controller sets ready for all endpoints of a Service that publishes
// addresses which are not.
func eachReady(service *state.Service, visit func(*model.EndpointSlice, *model.Endpoint) bool) {
	for _, slice := range service.Slices {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.Ready && !visit(slice, e) {
				return
			}
		}
	}
}

func anyReady(service *state.Service) bool {
	found := false
	eachReady(service, func(*model.EndpointSlice, *model.Endpoint) bool { found = true; return false })
	return found
}

// endpointLabel is the label under which an endpoint is found below its Service: the
// hostname, else the address with dashes for dots and colons. A trailing dash, which no
// label may have, gets the 0 that "::" stands for.
func endpointLabel(e *model.Endpoint) string {
	if e.Hostname != "" {
		return e.Hostname
	}
	addr := e.Addr.Unmap()
	if addr.Is4() {
		return strings.ReplaceAll(addr.String(), ".", "-")
	}
	label := strings.ReplaceAll(addr.String(), ":", "-")
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}
