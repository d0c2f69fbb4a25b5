package proxy

import (
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/config"
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
