package proxy

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/config"
)

// restore fills a Store from the snapshot on disk, if it may be used, and gives its keeper, which
// is to run beside the source; nil if no file is asked for.
func restore(c config.Config, store *state.Store, own *addresses, source watch.Source, logger *slog.Logger) (*snapshotfile.Keeper, error) {
	if c.Snapshot == "" {
		return nil, nil
	}
	server := sourceConfig(c, logger)
	cluster, err := server.Cluster()
	if err != nil {
		return nil, err
	}
	keeper := &snapshotfile.Keeper{
		Path: c.Snapshot,
		Accept: snapshotfile.Acceptance{
			Identity: snapshotfile.Identity{Cluster: cluster, Selection: server.Extent(), Node: c.Node},
			MaxAge:   c.SnapshotMaxAge, Here: own.has,
		},
		Addresses: func(s *state.Snapshot) []netip.Addr { return knownBy(s, c.Node, own.has) },
		Contact:   func() time.Time { return watch.Current(source.Status()) },
		Logger:    logger,
	}
	keeper.Restore(store)
	return keeper, nil
}

// knownBy gives the addresses by which the cluster and the host itself know a node. Others that
// the host has, of bridges for containers, are the same on many nodes.
func knownBy(snapshot *state.Snapshot, node string, has func(netip.Addr) bool) []netip.Addr {
	object := snapshot.Node(node)
	if object == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(object.Addresses), func(a netip.Addr) bool { return !has(a) })
}
