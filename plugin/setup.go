package mooring

import (
	"strconv"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"

	"github.com/mooring-project/mooring/internal/state"
)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	m, err := Parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	source, err := m.source.open()
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	feed := newFeed(source, m.Store, m.source.startupTimeout)
	c.OnStartup(func() error {
		m.localAddrs = boundAddrs(dnsserver.GetConfig(c).ListenHosts)
		feed.start()
		return nil
	})
	c.OnShutdown(feed.stop)
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		m.Next = next
		return m
	})
	return nil
}

// Parse reads the one mooring stanza of a server block. The result has an empty Store,
// which setup has a source fill; tests fill it themselves.
func Parse(c *caddy.Controller) (*Mooring, error) {
	var m *Mooring
	for c.Next() {
		if m != nil {
			return nil, c.Errf("%s can be used once in a server block: join the two, or give each zone a server block of its own", pluginName)
		}
		var err error
		if m, err = parseStanza(c); err != nil {
			return nil, err
		}
	}
	if m == nil {
		return nil, c.Errf("no %s stanza", pluginName)
	}
	return m, nil
}

func parseStanza(c *caddy.Controller) (*Mooring, error) {
	m := &Mooring{Store: state.NewStore()}
	m.ttl = defaultTTL
	m.source.startupTimeout = defaultStartupTimeout
	if err := m.parseZones(c); err != nil {
		return nil, err
	}
	for c.NextBlock() {
		parse, known := directives[c.Val()]
		if !known {
			return nil, c.Errf("unknown property '%s'", c.Val())
		}
		if err := parse(m, c); err != nil {
			return nil, err
		}
	}
	return m, m.check(c)
}

// parseZones takes the zones behind the directive, else those of the server block.
func (m *Mooring) parseZones(c *caddy.Controller) error {
	for _, origin := range plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), c.ServerBlockKeys) {
		m.zones = append(m.zones, newZone(origin))
	}
	for _, z := range m.zones {
		if !z.reverse {
			m.primary = z.name
			return nil
		}
	}
	return c.Errf("a zone that is not a reverse zone is needed, such as cluster.local: names that PTR records point to are in it")
}

// directives are the properties of a stanza by name.
var directives = map[string]func(*Mooring, *caddy.Controller) error{
	"endpoint":        parseEndpoint,
	"fallthrough":     parseFallthrough,
	"kubeconfig":      parseKubeconfig,
	"manifests":       parseManifests,
	"namespaces":      parseNamespaces,
	"startup_timeout": parseStartupTimeout,
	"tls":             parseTLS,
	"ttl":             parseTTL,
}

func parseNamespaces(m *Mooring, c *caddy.Controller) error {
	names := c.RemainingArgs()
	if len(names) == 0 {
		return c.ArgErr()
	}
	if m.namespaces == nil {
		m.namespaces = make(map[string]struct{})
	}
	for _, name := range names {
		m.namespaces[name] = struct{}{}
	}
	return nil
}

func parseFallthrough(m *Mooring, c *caddy.Controller) error {
	var f fall.F
	f.SetZonesFromArgs(c.RemainingArgs())
	m.fallthroughZones = f.Zones
	return nil
}

func parseTTL(m *Mooring, c *caddy.Controller) error {
	seconds, err := oneNumber(c, 3600)
	m.ttl = uint32(seconds)
	return err
}

func parseStartupTimeout(m *Mooring, c *caddy.Controller) error {
	arg, err := oneArg(c)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(arg)
	if err != nil || d < 0 {
		return c.Errf("startup_timeout wants a duration such as 5s, not '%s'", arg)
	}
	m.source.startupTimeout = d
	return nil
}

func parseEndpoint(m *Mooring, c *caddy.Controller) error {
	urls := c.RemainingArgs()
	if len(urls) == 0 {
		return c.ArgErr()
	}
	if len(urls) > 1 {
		log.Warningf("endpoint: only the first address is used: %s", urls[0])
	}
	m.source.endpoint = urls[0]
	return nil
}

func parseTLS(m *Mooring, c *caddy.Controller) error {
	files := c.RemainingArgs()
	if len(files) != 3 {
		return c.ArgErr()
	}
	m.source.certFile, m.source.keyFile, m.source.caFile = files[0], files[1], files[2]
	return nil
}

func parseKubeconfig(m *Mooring, c *caddy.Controller) error {
	args := c.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return c.ArgErr()
	}
	m.source.kubeconfig = args[0]
	if len(args) == 2 {
		m.source.context = args[1]
	}
	return nil
}

func parseManifests(m *Mooring, c *caddy.Controller) (err error) {
	m.source.manifests, err = oneArg(c)
	return err
}

// check finds settings that contradict each other.
func (m *Mooring) check(c *caddy.Controller) error {
	s := &m.source
	if s.manifests != "" && (s.endpoint != "" || s.kubeconfig != "" || s.certFile != "") {
		return c.Errf("manifests takes the place of an API server: remove endpoint, kubeconfig and tls")
	}
	return nil
}

// oneArg takes exactly one argument of a property.
func oneArg(c *caddy.Controller) (string, error) {
	args := c.RemainingArgs()
	if len(args) != 1 {
		return "", c.ArgErr()
	}
	return args[0], nil
}

// oneNumber takes exactly one whole number between 0 and limit.
func oneNumber(c *caddy.Controller, limit int) (int, error) {
	property := c.Val()
	arg, err := oneArg(c)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 0 || n > limit {
		return 0, c.Errf("%s wants a whole number between 0 and %d, not '%s'", property, limit, arg)
	}
	return n, nil
}
