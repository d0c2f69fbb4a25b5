package dataplane

import (
	"context"
	"fmt"

	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
)

// Lacking lists what Setup would make or change, in words; empty if all is there. It changes
// nothing.
func (k *Kernel) Lacking(ctx context.Context) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lacking []string
	for _, p := range k.parameters() {
		value, err := sysctl.Get(p.name)
		if err != nil {
			return nil, err
		}
		if value != p.value {
			lacking = append(lacking, fmt.Sprintf("sysctl %s is %s and should be %s", p.name, value, p.value))
		}
	}
	table, err := k.nft.Lacking(ctx)
	if err != nil {
		return nil, classify(err, nil)
	}
	routes, err := k.divert.Lacking()
	if err != nil {
		return nil, classify(err, nil)
	}
	return append(append(lacking, table...), routes...), nil
}
