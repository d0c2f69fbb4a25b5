package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// nodes is how many the endpoints are spread over.
const nodes = 5000

// cluster generates Services and their EndpointSlices.
type cluster struct {
	services, endpoints int
	abouts              [nodes]*model.About
}

func newCluster(services, endpoints int) *cluster {
	c := &cluster{services: services, endpoints: endpoints}
	for i := range c.abouts {
		c.abouts[i] = &model.About{Node: fmt.Sprintf("worker-%d", i), Zone: fmt.Sprintf("zone-%d", i%3)}
	}
	return c
}

// fill puts everything into a store, a part at a time as a watch brings it.
func (c *cluster) fill(store *state.Store) {
	const part = 500
	for from := 0; from < c.services; from += part {
		store.Update(time.Now(), func(tx *state.Txn) {
			for i := from; i < min(from+part, c.services); i++ {
				service := c.service(i)
				tx.PutService(service)
				tx.PutSlice(c.slice(i, c.endpoints))
			}
		})
	}
	store.Update(time.Now(), func(tx *state.Txn) { tx.SetSynced() })
}

func (c *cluster) key(i int) model.ServiceKey {
	return model.ServiceKey{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("service-%d", i)}
}

// service gives Service number i. Its protocol is UDP, so that endpoints leave at once and a change is
// one round.
func (c *cluster) service(i int) *model.Service {
	return &model.Service{
		Key: c.key(i), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Ports: []model.ServicePort{{Name: "main", Protocol: model.UDP, Port: 80}},
	}
}

// slice gives its EndpointSlice with n endpoints.
func (c *cluster) slice(i, n int) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Name: fmt.Sprintf("service-%d-x7k2p", i), Service: c.key(i), Ports: []model.EndpointPort{{Name: "main", Protocol: model.UDP, Port: 8080}},
		Endpoints: make([]model.Endpoint, n),
	}
	for j := range s.Endpoints {
		at := uint32(i*(c.endpoints+1) + j)
		s.Endpoints[j] = model.Endpoint{
			Addr: netip.AddrFrom4([4]byte{byte(64 + at>>24), byte(at >> 16), byte(at >> 8), byte(at)}), Ready: true, Serving: true, About: c.abouts[at%nodes],
		}
	}
	return s
}
