package mooring

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/pkg/upstream"

	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/internal/watch"
)

// unsetTTL stands for a TTL that the stanza does not mention.
const unsetTTL = math.MaxUint32

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	m, err := Parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	sources, err := m.open()
	if err != nil {
		return plugin.Error(pluginName, fmt.Errorf("%s: %w", m.source.line, err))
	}
	if err := m.snapshot.claim(c); err != nil {
		return plugin.Error(pluginName, err)
	}
	if m.keepings, err = m.keep(sources); err != nil {
		return plugin.Error(pluginName, err)
	}
	feed := &feed{
		sources: sources, keepings: m.keepings, patience: m.source.startupTimeout,
		follow: func(ctx context.Context) { m.watchSnapshots(ctx, sources) },
	}
	c.OnStartup(func() error {
		m.localAddrs = boundAddrs(dnsserver.GetConfig(c).ListenHosts)
		feed.start()
		return nil
	})
	c.OnShutdown(feed.stop)
	addToChain(dnsserver.GetConfig(c), m)
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
	m := &Mooring{Store: state.NewIndexedStore(), Upstream: upstream.New(), since: time.Now(), hostSearch: hostSearch()}
	m.ttl, m.negativeTTL = defaultTTL, unsetTTL
	m.source.startupTimeout = defaultStartupTimeout
	m.source.at(c)
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
	if m.negativeTTL == unsetTTL {
		m.negativeTTL = m.ttl
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
			m.naming.primary = z.name
			return nil
		}
	}
	return c.Errf("a zone that is not a reverse zone is needed, such as cluster.local: names that PTR records point to are in it")
}

// directives are the properties of a stanza by name.
var directives = map[string]func(*Mooring, *caddy.Controller) error{
	"apiserver_burst":        parseBurst,
	"apiserver_max_inflight": parseMaxInflight,
	"apiserver_qps":          parseQPS,
	"compat":                 parseCompat,
	"endpoint":               parseEndpoint,
	"endpoint_pod_names":     parseEndpointPodNames,
	"fallthrough":            parseFallthrough,
	"ignore":                 parseIgnore,
	"kubeconfig":             parseKubeconfig,
	"labels":                 parseLabels,
	"manifests":              parseManifests,
	"multicluster":           parseMulticluster,
	"namespace_labels":       parseNamespaceLabels,
	"namespaces":             parseNamespaces,
	"negative_ttl":           parseNegativeTTL,
	"noendpoints":            parseNoEndpoints,
	"pods":                   parsePods,
	"snapshot":               parseSnapshot,
	"stale_after":            parseStaleAfter,
	"startup_timeout":        parseStartupTimeout,
	"tls":                    parseTLS,
	"ttl":                    parseTTL,
	"zonal":                  parseZonal,
}

func parseMulticluster(m *Mooring, c *caddy.Controller) error {
	origins := c.RemainingArgs()
	if len(origins) == 0 {
		return c.ArgErr()
	}
	for _, origin := range plugin.OriginsFromArgsOrServerBlock(origins, nil) {
		i := slices.IndexFunc(m.zones, func(z zone) bool { return z.name == origin })
		if i < 0 {
			return c.Errf("multicluster zone %s is not among the zones of this plugin", origin)
		}
		m.zones[i].multicluster = true
	}
	m.Imports = state.NewIndexedStore()
	return nil
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
	seconds, err := oneNumber(c, maxTTL)
	m.ttl = uint32(seconds)
	return err
}

func parseNegativeTTL(m *Mooring, c *caddy.Controller) error {
	seconds, err := oneNumber(c, maxTTL)
	m.negativeTTL = uint32(seconds)
	return err
}

func parsePods(m *Mooring, c *caddy.Controller) error {
	arg, err := oneArg(c)
	if err != nil {
		return err
	}
	switch arg {
	case "disabled":
		m.pods = podsDisabled
	case "insecure":
		m.pods = podsInsecure
	case "verified":
		m.pods = podsVerified
	default:
		return c.Errf("pods wants one of disabled, insecure, verified, not '%s'", arg)
	}
	return nil
}

func parseIgnore(m *Mooring, c *caddy.Controller) error {
	arg, err := oneArg(c)
	if err != nil {
		return err
	}
	if arg != "empty_service" {
		return c.Errf("ignore wants empty_service, not '%s'", arg)
	}
	m.ignoreEmpty = true
	return nil
}

func parseCompat(m *Mooring, c *caddy.Controller) error {
	arg, err := oneArg(c)
	if err != nil {
		return err
	}
	if arg != "stock" {
		return c.Errf("compat wants stock, not '%s'", arg)
	}
	m.stock = true
	return nil
}

func parseEndpointPodNames(m *Mooring, c *caddy.Controller) error {
	m.naming.podNames = true
	return noArgs(c)
}

func parseNoEndpoints(m *Mooring, c *caddy.Controller) error {
	m.source.noEndpoints = true
	return noArgs(c)
}

func parseZonal(m *Mooring, c *caddy.Controller) error {
	m.zonal = true
	return noArgs(c)
}

func parseLabels(m *Mooring, c *caddy.Controller) (err error) {
	m.source.labels, err = expression(c)
	return err
}

func parseNamespaceLabels(m *Mooring, c *caddy.Controller) (err error) {
	m.source.namespaceLabels, err = expression(c)
	return err
}

func parseQPS(m *Mooring, c *caddy.Controller) error {
	arg, err := oneArg(c)
	if err != nil {
		return err
	}
	qps, err := strconv.ParseFloat(arg, 32)
	if err != nil || !(qps >= 0) {
		return c.Errf("apiserver_qps wants a number not below 0, not '%s'", arg)
	}
	m.source.qps = float32(qps)
	return nil
}

func parseBurst(m *Mooring, c *caddy.Controller) (err error) {
	m.source.burst, err = oneNumber(c, math.MaxInt32)
	return err
}

func parseMaxInflight(m *Mooring, c *caddy.Controller) (err error) {
	m.source.maxInflight, err = oneNumber(c, math.MaxInt32)
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

func parseStaleAfter(m *Mooring, c *caddy.Controller) error {
	args := c.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return c.ArgErr()
	}
	d, err := time.ParseDuration(args[0])
	if err != nil || d <= 0 {
		return c.Errf("stale_after wants a duration such as 3m, not '%s'", args[0])
	}
	if len(args) == 2 && args[1] != "unready" {
		return c.Errf("stale_after DURATION can be followed by unready, not by '%s'", args[1])
	}
	m.freshness = freshness{limit: d, unready: len(args) == 2}
	return nil
}

func parseEndpoint(m *Mooring, c *caddy.Controller) error {
	m.source.at(c)
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
	m.source.at(c)
	files := c.RemainingArgs()
	if len(files) != 3 {
		return c.ArgErr()
	}
	m.source.certFile, m.source.keyFile, m.source.caFile = files[0], files[1], files[2]
	return nil
}

func parseKubeconfig(m *Mooring, c *caddy.Controller) error {
	m.source.at(c)
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
	m.source.at(c)
	m.source.manifests, err = oneArg(c)
	return err
}

// check finds settings that contradict each other.
func (m *Mooring) check(c *caddy.Controller) error {
	s := &m.source
	if s.manifests != "" && (s.endpoint != "" || s.kubeconfig != "" || s.certFile != "") {
		return c.Errf("manifests takes the place of an API server: remove endpoint, kubeconfig and tls")
	}
	if s.manifests != "" && m.Imports != nil {
		return c.Errf("multicluster needs an API server: remove manifests")
	}
	if len(m.namespaces) > 0 && s.namespaceLabels != "" {
		return c.Errf("namespaces and namespace_labels cannot both be set")
	}
	if m.zonal && s.noEndpoints {
		return c.Errf("zonal needs the endpoints: remove noendpoints")
	}
	return nil
}

// expression takes a label selector, which may be written with spaces.
func expression(c *caddy.Controller) (string, error) {
	property := c.Val()
	args := c.RemainingArgs()
	if len(args) == 0 {
		return "", c.ArgErr()
	}
	text := strings.Join(args, " ")
	if err := watch.CheckSelector(text); err != nil {
		return "", c.Errf("%s: label selector '%s': %s", property, text, err)
	}
	return text, nil
}

func noArgs(c *caddy.Controller) error {
	if len(c.RemainingArgs()) != 0 {
		return c.ArgErr()
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
