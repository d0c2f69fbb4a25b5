package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// maxPause bounds the delay between two tries; with jitter it is at most twice that.
// An API server that comes back is noticed within half a minute by everybody, and not
// by everybody at once.
const maxPause = 15 * time.Second

// listWatch asks the API server for one kind. It waits out a server that is away, so
// that the reflector keeps its place in the stream and can be stopped meanwhile.
type listWatch struct {
	clients *clients
	sink    *sink
	pause   time.Duration
	// noFields is set once the server has refused the field selector, as those before
	// 1.35 do for Services; the sink filters too.
	noFields atomic.Bool
	// restart makes the kind be listed anew.
	restart restart
}

// List is ListWithContext without an end.
func (l *listWatch) List(options metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), options)
}

// Watch is WatchWithContext without an end.
func (l *listWatch) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), options)
}

// ListWithContext lists the kind.
func (l *listWatch) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	l.sink.listing.begin(l.sink.first())
	l.renew(&options)
	var list runtime.Object
	err := l.try(ctx, &options, func() (err error) {
		list, err = l.clients.list(ctx, l.sink.kind, l.sink.selection.namespace(l.sink.kind), &options)
		return err
	})
	return list, err
}

// WatchWithContext watches the kind.
func (l *listWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	var stream watch.Interface
	if options.SendInitialEvents != nil {
		l.renew(&options)
	}
	err := l.try(ctx, &options, func() (err error) {
		stream, err = l.clients.watch(ctx, l.sink.kind, l.sink.selection.namespace(l.sink.kind), &options)
		return err
	})
	if err == nil && options.SendInitialEvents != nil && *options.SendInitialEvents {
		l.sink.listing.begin(l.sink.first())
	}
	return stream, err
}

// renew asks for the most recent data if what the watch brought is in doubt: anything
// older may lack what the watch lacked.
func (l *listWatch) renew(options *metav1.ListOptions) {
	if l.sink.ledger.doubted() {
		options.ResourceVersion = ""
	}
}

// try asks until there is an answer, good or bad.
func (l *listWatch) try(ctx context.Context, options *metav1.ListOptions, ask func() error) error {
	retry := newBackoff(l.pause)
	for {
		l.narrow(options)
		err := ask()
		switch {
		case err == nil:
			l.sink.status.recovered(l.sink.kind.resource.Resource, time.Now())
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case apierrors.IsBadRequest(err) && options.FieldSelector != "" && l.sink.kind.fieldsOptional:
			l.noFields.Store(true)
		case isAway(err):
			l.sink.failed(ctx, l.clients.explain(l.sink.kind, err))
			retry.wait(ctx)
		default:
			return err
		}
	}
}

func (l *listWatch) narrow(options *metav1.ListOptions) {
	options.LabelSelector = l.sink.kind.labels
	options.FieldSelector = l.sink.kind.fields
	if l.noFields.Load() {
		options.FieldSelector = ""
	}
}

// isAway tells whether the server could not be reached or is too busy to answer: asking
// the same again later is then better than beginning anew with a list. A resource version
// that the server has not reached yet is an answer.
func isAway(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	return !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) &&
		(apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
			apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err))
}

// isMissing tells whether the server lacks a resource or forbids it.
func isMissing(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err))
}

// A backoff doubles the delay from one failure to the next.
type backoff struct{ next, max time.Duration }

func newBackoff(first time.Duration) *backoff { return &backoff{next: first, max: maxPause} }

// wait sleeps between one and two times the delay, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	delay := b.next + rand.N(b.next)
	b.next = min(2*b.next, b.max)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
