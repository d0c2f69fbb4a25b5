package main

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"k8s.io/client-go/informers"
)

// reading times how long informers take to read all Services and EndpointSlices, as every subject has to,
// and to do nothing with them.
func (b *bench) reading(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, b.Limit)
	defer cancel()
	factory := informers.NewSharedInformerFactory(b.api, 0)
	services, slices := factory.Core().V1().Services().Informer(), factory.Discovery().V1().EndpointSlices().Informer()
	began := time.Now()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	took := time.Since(began)
	read := services.HasSynced() && slices.HasSynced()
	cancel()
	factory.Shutdown()
	debug.FreeOSMemory()
	if !read {
		return 0, errors.New("not all Services and EndpointSlices read in time")
	}
	return took, nil
}
