package proxy

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/watch"
	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/health/nodeport"
	"github.com/mooring-project/mooring/proxy/plan"
)

// events tell people what is wrong with a Service where they look for it. What is told is logged
// as well, by whoever found it.
type events interface {
	// Warn does not wait; reason is one word, note a sentence.
	Warn(service model.ServiceKey, reason, note string)
	Run(ctx context.Context)
}

// noEvents are those of a proxy without an API server.
type noEvents struct{}

func (noEvents) Warn(model.ServiceKey, string, string) {}

func (noEvents) Run(context.Context) {}

func newEvents(c config.Config, logger *slog.Logger) (events, error) {
	if c.Source != "kubernetes" {
		return noEvents{}, nil
	}
	return watch.NewEvents(sourceConfig(c, logger), "mooring-proxy", c.Node)
}

// warnOfProblem tells that a part of a Service has no effect. The note says nothing of this node,
// because it is the same on all of them.
func warnOfProblem(e events) func(model.ServiceKey, plan.Problem) {
	return func(service model.ServiceKey, p plan.Problem) {
		e.Warn(service, p.Kind, fmt.Sprintf("%s: %q: %s", p.Field, p.Value, p.Reason))
	}
}

// warnOfHealthCheck tells that a healthCheckNodePort is not answered, as kube-proxy does.
func warnOfHealthCheck(e events, node string) func(nodeport.Check, error) {
	return func(check nodeport.Check, err error) {
		e.Warn(model.ServiceKey{Namespace: check.Namespace, Name: check.Name}, "FailedToStartServiceHealthcheck",
			fmt.Sprintf("node %s does not answer the healthCheckNodePort %d: %v", node, check.Address.Port(), err))
	}
}
