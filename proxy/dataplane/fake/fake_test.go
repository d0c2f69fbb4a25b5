package fake_test

import (
	"testing"

	"github.com/mooring-project/mooring/proxy/dataplane/contract"
	"github.com/mooring-project/mooring/proxy/dataplane/fake"
)

func TestContract(t *testing.T) {
	contract.Test(t, func(*testing.T) contract.Fixture {
		d := &fake.Dataplane{}
		return contract.Fixture{Dataplane: d, Foreign: d.Foreign, Servers: d.Servers}
	})
}
