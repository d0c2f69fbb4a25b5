package watch

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/state"
)

// KubernetesConfig says which API server to watch, how, and what of it. Of the four ways
// to find the server the first that is set counts: Kubeconfig, Master, and otherwise the
// environment of a Pod.
type KubernetesConfig struct {
	// Kubeconfig is the path of a kubeconfig file; Context one of its contexts, empty
	// for its current one.
	Kubeconfig string
	Context    string
	// Master is the URL of the API server; it overrides the one in Kubeconfig.
	Master string
	// CertFile, KeyFile and CAFile are PEM files for Master; used without Kubeconfig.
	CertFile, KeyFile, CAFile string

	// ContentType is how objects are encoded; empty means protobuf, with JSON accepted.
	ContentType string
	// AcceptContentTypes overrides what is asked for, as kube-proxy's field of that name.
	AcceptContentTypes string
	// QPS and Burst limit requests to the server, all groups together, but for watches, of which
	// there are few; 0 means client-go's defaults (5 and 10), QPS below 0 no limit.
	QPS   float32
	Burst int
	// MaxInflight limits how many requests wait for their answer to begin; 0 means no
	// limit.
	MaxInflight int
	// UserAgent is what the server's audit log shows; empty means client-go's default.
	UserAgent string

	Selection
	// Want says what else than Services and EndpointSlices to watch.
	Want Want

	// Eager commits objects of the first lists as they are read, for whoever can do something with a
	// snapshot that is not usable yet. A server that does not stream lists (KEP-3157) sends each as a whole.
	Eager bool

	// AuditInterval is how often, give or take a half, to list the keys and versions of
	// everything and to compare them with what the watches brought; 0 means 10 minutes,
	// less means never.
	AuditInterval time.Duration

	// Logger is where Run logs; nil means slog.Default.
	Logger *slog.Logger
}

// Want names the kinds a consumer needs besides Services and EndpointSlices. The store
// is synced once all of them have been listed.
type Want struct {
	Namespaces bool
	// Nodes wants all Nodes; Node only the one of that name. Nodes wins.
	Nodes bool
	Node  string
	// ServiceCIDRs are allowed to be missing or forbidden: then there are none.
	ServiceCIDRs bool
	Pods         bool
}

// Kubernetes is the Source that watches an API server.
type Kubernetes struct {
	*statusBoard
	clients   *clients
	selection Selection
	eager     bool
	kinds     []*kind
	logger    *slog.Logger
	names     intern.Names
	// pause is the first delay after a failure; each further one is twice as long.
	pause time.Duration
	// auditInterval is the mean time between two audits, 0 for none; grace how long a
	// change may take to come through a watch.
	auditInterval, grace time.Duration
}

// NewKubernetes prepares a Source. It reads the configuration but does not contact the
// server; an error says what is wrong in the configuration.
func NewKubernetes(config KubernetesConfig) (Source, error) {
	return newKubernetes(config, func(s *Selection) []*kind { return wantedKinds(s, config.Want) })
}

func newKubernetes(config KubernetesConfig, choose func(*Selection) []*kind) (Source, error) {
	clients, err := newClients(&config, watchedGroups)
	if err != nil {
		return nil, err
	}
	k := &Kubernetes{
		clients: clients, selection: config.Selection, eager: config.Eager, logger: orDefault(config.Logger), pause: 500 * time.Millisecond,
		auditInterval: max(0, cmp.Or(config.AuditInterval, defaultAuditInterval)), grace: auditGrace,
	}
	k.kinds = choose(&k.selection)
	var names []string
	for _, kind := range k.kinds {
		if err := checkSelectors(kind); err != nil {
			return nil, err
		}
		names = append(names, kind.resource.Resource)
	}
	k.statusBoard = newStatusBoard(k.logger, names...)
	return k, nil
}

func wantedKinds(s *Selection, want Want) []*kind {
	kinds := []*kind{serviceKind(s)}
	if !s.NoEndpoints {
		kinds = append(kinds, sliceKind(s))
	}
	if want.Namespaces {
		kinds = append(kinds, namespaceKind(s))
	}
	if want.Nodes {
		kinds = append(kinds, nodeKind(""))
	} else if want.Node != "" {
		kinds = append(kinds, nodeKind(want.Node))
	}
	if want.ServiceCIDRs {
		kinds = append(kinds, serviceCIDRKind())
	}
	if want.Pods {
		kinds = append(kinds, podKind(s))
	}
	return kinds
}

func checkSelectors(k *kind) error {
	if _, err := labels.Parse(k.labels); err != nil {
		return fmt.Errorf("%s: label selector %q: %w", k.resource.Resource, k.labels, err)
	}
	if _, err := fields.ParseSelector(k.fields); err != nil {
		return fmt.Errorf("%s: field selector %q: %w", k.resource.Resource, k.fields, err)
	}
	return nil
}

// Run watches until ctx ends: one goroutine a kind, each with its own retries.
func (k *Kubernetes) Run(ctx context.Context, store *state.Store) error {
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(quiet{k.logger.With("component", "client-go").Handler()}))
	missing := newChecklist(len(k.kinds))
	audit := &auditor{interval: k.auditInterval, grace: k.grace, logger: k.logger}
	var running sync.WaitGroup
	for _, kind := range k.kinds {
		source := &listWatch{clients: k.clients, pause: k.pause, sink: &sink{
			kind: kind, selection: &k.selection, store: store, converter: converter{names: &k.names, literal: k.selection.Literal, noTargets: k.selection.NoTargets},
			status: k.statusBoard, logger: k.logger, listed: missing.item(), eager: k.eager,
		}}
		audit.kinds = append(audit.kinds, source.audited())
		running.Go(func() { k.follow(ctx, source) })
	}
	if audit.interval > 0 {
		running.Go(func() { audit.run(ctx) })
	}
	running.Wait()
	return nil
}

// follow lists and watches one kind again and again. The reflector's own loop is not
// used: it reports no errors to us and does not stop while it waits.
func (k *Kubernetes) follow(ctx context.Context, source *listWatch) {
	s := source.sink
	reflector := cache.NewReflectorWithOptions(source, s.kind.example, s, cache.ReflectorOptions{
		Name: s.kind.resource.Resource,
	})
	retry := newBackoff(k.pause)
	for ctx.Err() == nil {
		began := time.Now()
		attempt, end := source.restart.attempt(ctx)
		err := reflector.ListAndWatchWithContext(attempt)
		s.listing.end() // if it failed
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || attempt.Err() != nil {
			err = nil // the server forgot where we were, or an audit; the next list repairs that
		}
		end()
		if err != nil {
			s.failed(ctx, k.clients.explain(s.kind, err))
			k.doWithout(ctx, s, err)
		}
		if err == nil || time.Since(began) > retry.max {
			retry = newBackoff(k.pause)
		}
		retry.wait(ctx)
	}
}

// doWithout counts an optional kind that the server lacks as listed.
func (k *Kubernetes) doWithout(ctx context.Context, s *sink, err error) {
	if !s.kind.optional || !isMissing(err) || ctx.Err() != nil {
		return
	}
	s.store.Update(time.Now(), func(tx *state.Txn) { s.listed(tx) })
}

// A checklist marks the store synced when every item has been ticked off.
type checklist struct {
	// mu guards missing.
	mu      sync.Mutex
	missing int
}

func newChecklist(items int) *checklist { return &checklist{missing: items} }

// item gives the function that ticks off one item; ticking it again does nothing.
func (c *checklist) item() func(*state.Txn) {
	done := false
	return func(tx *state.Txn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if done {
			return
		}
		done = true
		if c.missing--; c.missing == 0 {
			tx.SetSynced()
		}
	}
}

// namespace is the one to ask for: with an allow-list of one name the server selects.
func (s *Selection) namespace(k *kind) string {
	if k.namespaced && len(s.Namespaces) == 1 {
		return strings.TrimSpace(s.Namespaces[0])
	}
	return ""
}
