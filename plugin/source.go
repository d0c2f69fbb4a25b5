package mooring

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/coredns/caddy"
	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/mooring-project/mooring/internal/watch"
)

// sourceConfig says where the objects come from and which of them are wanted.
type sourceConfig struct {
	// manifests is a directory or file; empty means the API server.
	manifests string

	endpoint                  string
	certFile, keyFile, caFile string
	kubeconfig, context       string
	qps                       float32
	burst                     int
	maxInflight               int

	labels, namespaceLabels string
	noEndpoints             bool

	startupTimeout time.Duration
	// line is where in the Corefile the source is named, for errors.
	line string
}

// at notes that the source is named where c is.
func (s *sourceConfig) at(c *caddy.Controller) { s.line = fmt.Sprintf("%s:%d", c.File(), c.Line()) }

// open makes the sources that the configuration names. It contacts nobody yet.
func (m *Mooring) open() ([]feeding, error) {
	if m.source.manifests != "" {
		source, err := watch.NewManifests(m.source.manifests, m.selection(), newLogger())
		return []feeding{{source, m.Store}}, err
	}
	return m.openKubernetes(m.kubernetes())
}

// selection says which objects are wanted.
func (m *Mooring) selection() watch.Selection {
	selection := watch.Selection{
		Labels:          m.source.labels,
		NamespaceLabels: m.source.namespaceLabels,
		NoEndpoints:     m.source.noEndpoints,
		NoTargets:       !m.naming.podNames,
	}
	if m.stock {
		selection.Literal = true
	} else { // the stock plugin names itself by its Service, exposed or not
		selection.Namespaces = slices.Sorted(maps.Keys(m.namespaces))
	}
	return selection
}

// kubernetes says how to watch the API server.
func (m *Mooring) kubernetes() watch.KubernetesConfig {
	s := &m.source
	return watch.KubernetesConfig{
		Kubeconfig:  s.kubeconfig,
		Context:     s.context,
		Master:      s.endpoint,
		CertFile:    s.certFile,
		KeyFile:     s.keyFile,
		CAFile:      s.caFile,
		QPS:         s.qps,
		Burst:       s.burst,
		MaxInflight: s.maxInflight,
		UserAgent:   userAgent(),
		Selection:   m.selection(),
		Want:        watch.Want{Namespaces: true, Pods: m.pods == podsVerified},
		Logger:      newLogger(),
	}
}

// openKubernetes makes the source of this cluster's objects, and if there is a
// multicluster zone that of the cluster set's.
func (m *Mooring) openKubernetes(config watch.KubernetesConfig) ([]feeding, error) {
	own, err := watch.NewKubernetes(config)
	if err != nil || m.Imports == nil {
		return []feeding{{own, m.Store}}, err
	}
	imports, err := watch.NewImports(config)
	return []feeding{{own, m.Store}, {imports, m.Imports}}, err
}

func userAgent() string {
	version, _, _ := strings.Cut(caddy.AppVersion, " ")
	return fmt.Sprintf("%s/%s (%s/%s)", caddy.AppName, version, runtime.GOOS, runtime.GOARCH)
}

func newLogger() *slog.Logger { return slog.New(&logHandler{plugin: log}) }

// logHandler hands what a source logs to CoreDNS's log, so that both look alike.
type logHandler struct {
	plugin clog.P
	attrs  string
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || clog.D.Value()
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Message + h.attrs
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	switch {
	case r.Level >= slog.LevelError:
		h.plugin.Error(line)
	case r.Level >= slog.LevelWarn:
		h.plugin.Warning(line)
	case r.Level >= slog.LevelInfo:
		h.plugin.Info(line)
	default:
		h.plugin.Debug(line)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	for _, a := range attrs {
		with.attrs += " " + a.String()
	}
	return &with
}

// WithGroup implements slog.Handler; groups are not shown.
func (h *logHandler) WithGroup(string) slog.Handler { return h }
