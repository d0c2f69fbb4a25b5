// Package intern makes equal strings, and what is equally known of several endpoints, share
// memory: endpoints repeat few node names, zones and namespaces many times over.
package intern

import (
	"strings"
	"sync"

	"github.com/mooring-project/mooring/internal/model"
)

// limit bounds the memory of names that are no longer used: a collection that
// reaches it starts anew.
const limit = 1 << 16

// Names is a collection of what is shared. The zero Names is ready and safe for concurrent
// use.
type Names struct {
	// mu guards the maps.
	mu      sync.Mutex
	strings map[string]string
	abouts  map[aboutKey]*model.About
}

// aboutKey is a model.About that several endpoints may share. The lists of its hints are
// joined: no name of a zone or node has a comma.
type aboutKey struct{ node, zone, forZones, forNodes string }

// Text gives the shared copy of s.
func (n *Names) Text(s string) string {
	if s == "" {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.locked(s)
}

func (n *Names) locked(s string) string {
	if shared, known := n.strings[s]; known {
		return shared
	}
	if n.strings == nil || len(n.strings) >= limit {
		n.strings, n.abouts = make(map[string]string), make(map[aboutKey]*model.About)
	}
	n.strings[s] = s
	return s
}

// About gives what is known of an endpoint with shared memory; nil if nothing is. What has a
// name of its own is not shared as a whole.
func (n *Names) About(a model.About) *model.About {
	key := aboutKey{a.Node, a.Zone, strings.Join(a.ForZones, ","), strings.Join(a.ForNodes, ",")}
	own := a.Hostname != "" || a.TargetPod != ""
	if !own && key == (aboutKey{}) {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if shared := n.abouts[key]; shared != nil {
		if !own {
			return shared
		}
		a.Node, a.Zone, a.ForZones, a.ForNodes = shared.Node, shared.Zone, shared.ForZones, shared.ForNodes
		return &a
	}
	a.Node, a.Zone, a.ForZones, a.ForNodes = n.locked(a.Node), n.locked(a.Zone), n.all(a.ForZones), n.all(a.ForNodes)
	key = aboutKey{a.Node, a.Zone, n.locked(key.forZones), n.locked(key.forNodes)}
	shared := a
	shared.Hostname, shared.TargetPod = "", ""
	n.abouts[key] = &shared
	if !own {
		return &shared
	}
	return &a
}

// all gives names with shared memory; nil if there are none.
func (n *Names) all(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = n.locked(name)
	}
	return list
}
