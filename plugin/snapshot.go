package mooring

import (
	"fmt"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mooring-project/mooring/internal/snapshotfile"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

const (
	// defaultMaxAge is how old a snapshot on disk may be: while no API server changes anything,
	// what was true in the evening is true in the morning.
	defaultMaxAge = 24 * time.Hour
	// restoredPatience is how long the start waits for the API server with a snapshot at hand.
	restoredPatience = 500 * time.Millisecond
	// importsSuffix makes the name of the file for the Services of a cluster set.
	importsSuffix = ".imports"
)

// snapshotConfig is the property snapshot.
type snapshotConfig struct {
	// path is the file; empty for none.
	path   string
	maxAge time.Duration
	// unready is true if the plugin is not to be ready while it answers from the file.
	unready bool
}

var (
	restoredAge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "restored_age_seconds",
		Help:      "Age of the snapshot from disk that queries are answered from; 0 once the API server has been reached.",
	}, []string{"zone"})

	diskAge     = diskGauge("age_seconds", "Time since what the snapshot on disk holds was last known to be current.")
	diskBytes   = diskGauge("bytes", "Size of the snapshot on disk.")
	diskFailure = diskGauge("write_failures", "Writes of the snapshot on disk that went wrong, since the start.")
)

func diskGauge(name, help string) *prometheus.GaugeVec {
	return promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "disk_snapshot_" + name, Help: help,
	}, []string{"zone", "file"})
}

// parseSnapshot reads snapshot PATH [max_age DURATION] [unready].
func parseSnapshot(m *Mooring, c *caddy.Controller) error {
	args := c.RemainingArgs()
	if len(args) == 0 {
		return c.ArgErr()
	}
	m.snapshot = snapshotConfig{path: args[0], maxAge: defaultMaxAge}
	for args = args[1:]; len(args) > 0; {
		switch {
		case args[0] == "unready":
			m.snapshot.unready, args = true, args[1:]
		case args[0] == "max_age" && len(args) > 1:
			d, err := time.ParseDuration(args[1])
			if err != nil || d <= 0 {
				return c.Errf("snapshot: max_age wants a duration such as 24h, not '%s'", args[1])
			}
			m.snapshot.maxAge, args = d, args[2:]
		default:
			return c.Errf("snapshot PATH can be followed by max_age DURATION and unready, not by '%s'", args[0])
		}
	}
	return nil
}

// snapshotPaths is the key under which an instance of CoreDNS keeps the server blocks that write
// a file.
type snapshotPaths struct{}

// claim makes sure that no other server block writes the same file.
func (s *snapshotConfig) claim(c *caddy.Controller) error {
	if s.path == "" {
		return nil
	}
	owners, _ := c.Get(snapshotPaths{}).(map[string]int)
	if owners == nil {
		owners = make(map[string]int)
		c.Set(snapshotPaths{}, owners)
	}
	if owner, taken := owners[s.path]; taken && owner != c.ServerBlockIndex {
		return c.Errf("snapshot %s is another server block's: give each a file of its own", s.path)
	}
	owners[s.path] = c.ServerBlockIndex
	return nil
}

// A keeping is the file of one store.
type keeping struct {
	*snapshotfile.Keeper
	store *state.Store
}

// keep makes the keepers of the files for what the sources bring.
func (m *Mooring) keep(sources []feeding) ([]keeping, error) {
	if m.snapshot.path == "" {
		return nil, nil
	}
	if m.source.manifests != "" {
		log.Warningf("snapshot %s is not used: manifests are on disk already", m.snapshot.path)
		return nil, nil
	}
	config := m.kubernetes()
	cluster, err := config.Cluster()
	if err != nil {
		return nil, err
	}
	var keepings []keeping
	for _, source := range sources {
		identity := snapshotfile.Identity{Cluster: cluster, Selection: config.Extent()}
		path := m.snapshot.path
		if source.store == m.Imports {
			path += importsSuffix
			identity.Selection += ", imports"
		}
		keepings = append(keepings, keeping{&snapshotfile.Keeper{
			Path: path, Accept: snapshotfile.Acceptance{Identity: identity, MaxAge: m.snapshot.maxAge},
			Contact: func() time.Time { return watch.Current(source.Status()) },
			Logger:  newLogger(),
		}, source.store})
	}
	return keepings, nil
}

// restored gives the time as of which the older part of a view was known; zero if all of it is
// from the API server.
func (v view) restored() time.Time {
	asOf := v.Restored
	if local := v.local.Restored; asOf.IsZero() || !local.IsZero() && local.Before(asOf) {
		asOf = local
	}
	return asOf
}

// fromDisk says of an answer that it is from a file.
func fromDisk(asOf, now time.Time) string {
	return fmt.Sprintf("from a snapshot on disk as of %s ago, API server not reached yet", now.Sub(asOf).Round(time.Second))
}

// settled tells whether the plugin may be ready as far as files matter.
func (m *Mooring) settled() bool {
	own := m.Store.Load()
	imports := own
	if m.Imports != nil {
		imports = m.Imports.Load()
	}
	v := view{imports, own}
	return v.synced() && (!m.snapshot.unready || v.restored().IsZero())
}

// showDisk publishes how the files do, and how old what is answered from one is.
func (m *Mooring) showDisk(now time.Time) {
	if len(m.keepings) == 0 {
		return
	}
	zone, oldest := m.naming.primary, time.Duration(0)
	for _, k := range m.keepings {
		status := k.Status()
		if !status.AsOf.IsZero() {
			diskAge.WithLabelValues(zone, k.Path).Set(now.Sub(status.AsOf).Seconds())
		}
		diskBytes.WithLabelValues(zone, k.Path).Set(float64(status.Octets))
		diskFailure.WithLabelValues(zone, k.Path).Set(float64(status.Failures))
		if asOf := k.store.Load().Restored; !asOf.IsZero() {
			oldest = max(oldest, now.Sub(asOf))
		}
	}
	restoredAge.WithLabelValues(zone).Set(oldest.Seconds())
}
