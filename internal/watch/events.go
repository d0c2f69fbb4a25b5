package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-project/mooring/internal/model"
)

// Events tells people of what is wrong with a Service by Events of the Kubernetes API, which
// `kubectl describe service` shows.
//
// What many nodes have to say alike becomes one Event: its name is made of what is said. It is told
// once for each call of Warn, late or, if the API server stays away, never: who has to
// know for certain reads the log.
type Events struct {
	reporter, instance string
	clients            *clients
	logger             *slog.Logger
	queue              chan warning
	// spread is the time over which the nodes of a cluster speak up; pause comes before
	// another try.
	spread, pause time.Duration
}

// A warning is what Warn was told.
type warning struct {
	service      model.ServiceKey
	reason, note string
}

const (
	// eventsWaiting bounds the queue.
	eventsWaiting = 256
	// eventSpread keeps a thousand nodes from speaking in the same moment.
	eventSpread = 5 * time.Second
	// eventTries bounds how often one is sent.
	eventTries = 5
	// longestNote is what the API takes (ValidateEventCreate).
	longestNote = 1024
)

// NewEvents prepares the Events of a program, the reporter, that runs on a node. It does not
// contact the server; an error says what is wrong in the configuration.
func NewEvents(config KubernetesConfig, reporter, node string) (*Events, error) {
	clients, err := newClients(&config, []apiGroup{
		{corev1.SchemeGroupVersion, corev1.AddToScheme}, {eventsv1.SchemeGroupVersion, eventsv1.AddToScheme},
	})
	if err != nil {
		return nil, err
	}
	return &Events{
		reporter: reporter, instance: node, clients: clients, logger: orDefault(config.Logger),
		queue: make(chan warning, eventsWaiting), spread: eventSpread, pause: time.Second,
	}, nil
}

// Warn has an Event of type Warning written: reason is one word, note a sentence. It does not
// wait. It is safe for concurrent use.
func (e *Events) Warn(service model.ServiceKey, reason, note string) {
	select {
	case e.queue <- warning{service, reason, note}:
	default:
		e.logger.Warn("event not written: too many wait", "service", service, "reason", reason, "note", note)
	}
}

// Run writes until ctx ends.
func (e *Events) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-e.queue:
			sleep(ctx, rand.N(e.spread+1))
			e.write(ctx, w)
			for len(e.queue) > 0 && ctx.Err() == nil {
				e.write(ctx, <-e.queue)
			}
		}
	}
}

// write tries until it is written or must be given up.
func (e *Events) write(ctx context.Context, w warning) {
	for try := 1; ; try++ {
		err := e.try(ctx, w)
		if err == nil || ctx.Err() != nil {
			return
		}
		final := apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsNotFound(err)
		if try == eventTries || final {
			e.logger.Warn("event not written", "service", w.service, "reason", w.reason, "note", w.note, "err", e.explain(err))
			return
		}
		sleep(ctx, e.pause<<(try-1))
	}
}

// try writes a new Event or, if it is there already, that it is still so.
func (e *Events) try(ctx context.Context, w warning) error {
	event, err := e.event(ctx, w)
	if err != nil || event == nil {
		return err
	}
	group := e.clients.byGroup[eventsv1.SchemeGroupVersion]
	err = group.Post().Namespace(event.Namespace).Resource("events").Body(event).Do(ctx).Error()
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// The API takes no less than 2; how many have said it nobody counts.
	patch, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: 2, LastObservedTime: event.EventTime}})
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	return group.Patch(types.MergePatchType).Namespace(event.Namespace).Resource("events").Name(event.Name).Body(patch).Do(ctx).Error()
}

// event gives the object; nil if the Service is no more.
func (e *Events) event(ctx context.Context, w warning) (*eventsv1.Event, error) {
	uid, err := e.uid(ctx, w.service)
	if err != nil || uid == "" {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{e.reporter, string(uid), w.reason, w.note}, "\x00")))
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.service.Namespace, Name: w.service.Name + "." + hex.EncodeToString(sum[:8])},
		EventTime:  metav1.NowMicro(),
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Service", Namespace: w.service.Namespace, Name: w.service.Name, UID: uid,
		},
		Type: corev1.EventTypeWarning, Reason: w.reason, Note: shortened(w.note), Action: "Serve",
		ReportingController: e.reporter, ReportingInstance: e.instance,
	}, nil
}

// uid asks for what model.Service does not have, because it is needed nowhere else. What a proxy
// may do is list.
func (e *Events) uid(ctx context.Context, service model.ServiceKey) (uid types.UID, err error) {
	named := &metav1.ListOptions{FieldSelector: "metadata.name=" + service.Name}
	found, err := e.clients.metadata(ctx, serviceKind(&Selection{}), service.Namespace, named)
	if err != nil {
		return "", err
	}
	err = meta.EachListItem(found, func(object runtime.Object) error {
		m, err := meta.Accessor(object)
		if err == nil {
			uid = m.GetUID()
		}
		return err
	})
	return uid, err
}

func (e *Events) explain(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; the ClusterRole needs create and patch for events.events.k8s.io", err)
	}
	return err
}

// shortened cuts a note at the most that the API takes.
func shortened(note string) string {
	const more = " ..."
	if len(note) <= longestNote {
		return note
	}
	cut := longestNote - len(more)
	for !utf8.RuneStart(note[cut]) {
		cut--
	}
	return note[:cut] + more
}
