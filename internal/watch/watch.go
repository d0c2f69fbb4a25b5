// Package watch turns what a cluster says about itself into commits to a state.Store.
//
// There are two sources: the Kubernetes API, and a directory of ordinary manifests.
// Both promise the same: whole values only (a part that cannot be understood is left
// out and named), "synced" not before everything has been read once, the last good
// state kept while the source is away, and no API object kept in memory. It is the
// only package that imports k8s.io.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/state"
)

// A Source feeds a Store. A Source is run once; the Store has no other writer.
type Source interface {
	// Run commits to store until ctx ends and then returns nil. Whatever goes wrong
	// on the way is logged, shown by Status and tried again.
	Run(ctx context.Context, store *state.Store) error
	// Status tells how fresh each kind of object is, in a fixed order. It is safe for
	// concurrent use with Run.
	Status() []KindStatus
}

// KindStatus tells how fresh one kind of object is.
type KindStatus struct {
	// Kind is the resource name (services, endpointslices, ...) or, for manifests,
	// "manifests".
	Kind string
	// Listed is when everything of the kind was last read completely; zero if never.
	Listed time.Time
	// Contact is when the source was last heard of: a list, an event, a bookmark (the
	// API server sends one about every minute) or a watch that it accepted.
	Contact time.Time
	// Err is why the source cannot be read at present; nil if it can.
	Err error
	// ErrSince is when Err appeared.
	ErrSince time.Time
	// Audited is when what the watch brought was last compared with the API server;
	// zero if never.
	Audited time.Time
	// Repaired counts objects that such comparisons found the watch to have missed, and
	// that have been read anew.
	Repaired uint64
}

// Selection says which objects a source shall look at. The zero Selection is all
// Services and EndpointSlices.
type Selection struct {
	// Namespaces restricts all namespaced objects, and the Namespaces themselves, to
	// these; empty means all.
	Namespaces []string
	// Labels selects Services, EndpointSlices and Pods alike.
	Labels string
	// ServiceLabels selects Services in addition, as in
	// "!service.kubernetes.io/service-proxy-name".
	ServiceLabels string
	// NamespaceLabels selects Namespaces. Objects in Namespaces not selected are read
	// all the same.
	NamespaceLabels string
	// NoHeadless leaves out headless Services and their EndpointSlices.
	NoHeadless bool
	// NoEndpoints leaves out EndpointSlices.
	NoEndpoints bool
	// NoTargets leaves out the names of the Pods behind endpoints, which are a fifth of
	// what endpoints take in memory.
	NoTargets bool
	// Literal keeps what consumers are to take as undefined: the addresses of an endpoint
	// after its first, each as an endpoint of its own, and ports without number, as 0.
	Literal bool
}

// allows tells whether objects of a namespace are wanted.
func (s *Selection) allows(namespace string) bool {
	return len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, namespace)
}

// Parse makes the Source that a --source flag names: "kubernetes" (also the empty
// string) is the API server that config leads to, "manifests:PATH" a directory or file
// of manifests, of which config's Selection and Logger hold too.
func Parse(spec string, config KubernetesConfig) (Source, error) {
	name, path, _ := strings.Cut(spec, ":")
	switch {
	case spec == "" || spec == "kubernetes":
		return NewKubernetes(config)
	case name == "manifests" && path != "":
		return NewManifests(path, config.Selection, config.Logger)
	default:
		return nil, fmt.Errorf("source %q: must be kubernetes or manifests:PATH (a directory or file of YAML manifests)", spec)
	}
}

func orDefault(logger *slog.Logger) *slog.Logger {
	if logger == nil {
		return slog.Default()
	}
	return logger
}
