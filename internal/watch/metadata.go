package watch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	// metadataPage is how many objects are asked for at once.
	metadataPage = 500
	// metadataTimeout bounds how long one page may take.
	metadataTimeout = 30 * time.Second
	// metadataLimit bounds how long all pages may take. The server forgets a list that
	// is read in pages after five minutes anyway.
	metadataLimit = 5 * time.Minute
)

// metadataOnly makes content types ask for the metadata of objects; whoever does not
// know that sends all of them.
func metadataOnly(contentTypes string) string {
	var partial []string
	for contentType := range strings.SplitSeq(contentTypes, ",") {
		partial = append(partial, strings.TrimSpace(contentType)+";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
	}
	return strings.Join(append(partial, contentTypes), ",")
}

// listed is what a list tells about one object.
type listed struct {
	key     objectKey
	version uint64
}

// eachListed visits the key and the version of every object of the kind, a page at a
// time, as they were at one moment, which the resource version asOf names. That moment is
// not before the call: an empty resource version wants the most recent data. After an
// error what was visited is not all.
func (l *listWatch) eachListed(ctx context.Context, visit func(asOf uint64, object listed)) (asOf uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, metadataLimit)
	defer cancel()
	options := metav1.ListOptions{Limit: metadataPage}
	l.narrow(&options)
	for first := true; first || options.Continue != ""; first = false {
		page, head, err := l.page(ctx, &options)
		if err != nil {
			return 0, err
		}
		if first {
			asOf = parseVersion(head.GetResourceVersion())
		}
		err = meta.EachListItem(page, func(object runtime.Object) error {
			m, err := meta.Accessor(object)
			if err == nil {
				visit(asOf, listed{objectKey{m.GetNamespace(), m.GetName()}, parseVersion(m.GetResourceVersion())})
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("%s: list: %w", l.sink.kind.resource.Resource, err)
		}
		options.Continue = head.GetContinue()
	}
	return asOf, nil
}

func (l *listWatch) page(ctx context.Context, options *metav1.ListOptions) (runtime.Object, metav1.ListInterface, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	page, err := l.clients.metadata(ctx, l.sink.kind, l.sink.selection.namespace(l.sink.kind), options)
	if err != nil {
		return nil, nil, err
	}
	head, err := meta.ListAccessor(page)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: list: %T: %w", l.sink.kind.resource.Resource, page, err)
	}
	return page, head, nil
}
