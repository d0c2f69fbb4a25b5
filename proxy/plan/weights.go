package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

const (
	// WeightsAnnotation says which share of new connections endpoints get, by where they run,
	// for example "node/big=5,zone/near=3,*=1".
	WeightsAnnotation = "mooring.dev/weights"
	// SlowStartAnnotation is the time over which an endpoint that joins others gets its full
	// weight, for example "30s".
	SlowStartAnnotation = "mooring.dev/slow-start"
)

const (
	// mostWeight bounds a weight: the kernel's schedulers multiply it (ip_vs_wlc.c).
	mostWeight = 65535
	// finer is what weights are multiplied by where there is a slow start, so that a part of
	// one is a number too.
	finer = 100
	// longestSlowStart bounds SlowStartAnnotation: what is longer is more likely a slip.
	longestSlowStart = time.Hour
)

// unweighted are the schedulers that look at no weight but 0 (net/netfilter/ipvs).
var unweighted = []string{"rr", "lc", "dh"}

// weighting is what a Service says about weights.
type weighting struct {
	nodes, zones map[string]uint32
	// rest is that of endpoints that nothing else is said about.
	rest uint32
	// slowStart is 0 if there is none.
	slowStart time.Duration
}

// weighting reads a Service's annotations. Of what cannot be understood or would have no effect,
// the default is given, with an error for each annotation.
func (c Context) weighting(service *model.Service) (w weighting, weightsErr, slowStartErr error) {
	w.rest = 1
	if text, given := service.Annotations[WeightsAnnotation]; given {
		read, err := parseWeights(text)
		if err == nil {
			err = c.wantWeighted(service)
		}
		if err != nil {
			weightsErr = fmt.Errorf("%w; all endpoints weigh the same", err)
		} else {
			w = read
		}
	}
	if text, given := service.Annotations[SlowStartAnnotation]; given {
		read, err := parseSlowStart(text)
		if err == nil {
			err = c.wantWeighted(service)
		}
		if err != nil {
			slowStartErr = fmt.Errorf("%w; endpoints start at once", err)
		} else {
			w.slowStart = read
		}
	}
	return w, weightsErr, slowStartErr
}

// wantWeighted complains if the Service's scheduler does not look at weights.
func (c Context) wantWeighted(service *model.Service) error {
	value, _ := c.scheduling(service, Value{Scheduler: c.Scheduler})
	if slices.Contains(unweighted, value.Scheduler) {
		return fmt.Errorf("the scheduler %s does not look at weights: choose wrr, wlc or another one by the annotation %s", value.Scheduler, SchedulerAnnotation)
	}
	return nil
}

func parseWeights(text string) (weighting, error) {
	w := weighting{nodes: map[string]uint32{}, zones: map[string]uint32{}, rest: 1}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		who, number, given := strings.Cut(item, "=")
		weight, err := strconv.ParseUint(number, 10, 32)
		if !given || err != nil || weight > mostWeight/finer {
			return w, fmt.Errorf("%q is not like node/NAME=N, zone/NAME=N or *=N with a number up to %d", item, mostWeight/finer)
		}
		kind, name, _ := strings.Cut(who, "/")
		switch {
		case who == "*":
			w.rest = uint32(weight)
		case kind == "node" && name != "":
			w.nodes[name] = uint32(weight)
		case kind == "zone" && name != "":
			w.zones[name] = uint32(weight)
		default:
			return w, fmt.Errorf("%q begins with neither node/, zone/ nor *", item)
		}
	}
	return w, nil
}

func parseSlowStart(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("not a duration such as 30s or 2m")
	case d < time.Second || d > longestSlowStart:
		return 0, fmt.Errorf("has to be between 1s and %s", longestSlowStart)
	}
	return d, nil
}

// of gives an endpoint's weight: what is said of its node goes before what is said of its zone.
func (w weighting) of(endpoint model.Endpoint) uint32 {
	weight := w.rest
	if zone, said := w.zones[endpoint.Zone()]; said {
		weight = zone
	}
	if node, said := w.nodes[endpoint.Node()]; said {
		weight = node
	}
	if w.slowStart > 0 {
		weight *= finer
	}
	return weight
}

// SlowStart gives the time over which the Service's endpoints get their full weight; 0 if they
// have it at once.
func (c Context) SlowStart(service *model.Service) time.Duration {
	w, _, _ := c.weighting(service)
	return w.slowStart
}
