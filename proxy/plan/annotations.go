package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/model"
)

// Annotations of a Service that the proxy reads.
const (
	// SchedulerAnnotation names an IPVS scheduler and its flags, for example "mh,port".
	SchedulerAnnotation = "mooring.dev/scheduler"
	// DrainTimeoutAnnotation is how long a leaving TCP endpoint may keep its connections,
	// for example "90s".
	DrainTimeoutAnnotation = "mooring.dev/drain-timeout"
)

// annotationPrefix begins all of them.
const annotationPrefix = "mooring.dev/"

// longestDrain bounds DrainTimeoutAnnotation: what is longer is more likely a slip.
const longestDrain = 24 * time.Hour

// schedulers are those of the kernel (net/netfilter/ipvs), with the flags of each one.
var schedulers = map[string]map[string]uint32{
	"rr": nil, "wrr": nil, "lc": nil, "wlc": nil, "lblc": nil, "lblcr": nil, "dh": nil, "sed": nil, "nq": nil,
	"fo": nil, "ovf": nil, "twos": nil,
	"sh": hashFlags, "mh": hashFlags,
}

// hashFlags are IP_VS_SVC_F_SCHED1 and 2 as the hashing schedulers understand them: go to
// another real server when the one is down; hash the source port too.
var hashFlags = map[string]uint32{"fallback": 0x8, "port": 0x10}

// badAnnotations lists what is wrong with a Service's annotations, in a fixed order.
func (c Context) badAnnotations(service *model.Service) []Problem {
	if len(service.Annotations) == 0 {
		return nil
	}
	_, schedulerErr := c.scheduling(service, Value{})
	_, drainErr := drainTimeout(service)
	_, weightsErr, slowStartErr := c.weighting(service)
	var problems []Problem
	for _, p := range []struct {
		annotation string
		err        error
	}{
		{SchedulerAnnotation, schedulerErr},
		{WeightsAnnotation, weightsErr},
		{SlowStartAnnotation, slowStartErr},
		{DrainTimeoutAnnotation, drainErr},
	} {
		if p.err != nil {
			problems = append(problems, badAnnotation(service, p.annotation, p.err.Error()))
		}
	}
	return append(problems, unknown(service)...)
}

func badAnnotation(service *model.Service, name, reason string) Problem {
	return Problem{Kind: InvalidAnnotation, Field: name, Value: shortened(service.Annotations[name]), Reason: reason}
}

// unknown finds annotations of ours that nobody reads: slips, most of the time.
func unknown(service *model.Service) []Problem {
	known := []string{SchedulerAnnotation, WeightsAnnotation, SlowStartAnnotation, DrainTimeoutAnnotation}
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(service.Annotations)) {
		if strings.HasPrefix(name, annotationPrefix) && !slices.Contains(known, name) {
			problems = append(problems, badAnnotation(service, name, "no such annotation: choose one of "+strings.Join(known, ", ")))
		}
	}
	return problems
}

// DrainTimeout gives the time in which a Service's leaving TCP endpoints may finish; 0 if it
// says nothing, or nothing that can be understood.
func DrainTimeout(service *model.Service) time.Duration {
	timeout, err := drainTimeout(service)
	if err != nil {
		return 0
	}
	return timeout
}

func drainTimeout(service *model.Service) (time.Duration, error) {
	text, given := service.Annotations[DrainTimeoutAnnotation]
	if !given {
		return 0, nil
	}
	timeout, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("not a duration such as 90s or 5m; the default is used")
	case timeout <= 0 || timeout > longestDrain:
		return 0, fmt.Errorf("has to be more than 0 and at most %s; the default is used", longestDrain)
	}
	return timeout, nil
}

// scheduling gives a virtual server's value with the scheduler and flags of the Service's
// annotation, or as it is.
func (c Context) scheduling(service *model.Service, value Value) (Value, error) {
	text, given := service.Annotations[SchedulerAnnotation]
	if !given {
		return value, nil
	}
	parts := strings.Split(text, ",")
	name := strings.TrimSpace(parts[0])
	known, exists := schedulers[name]
	if !exists {
		return value, fmt.Errorf("no scheduler has that name: choose one of %s; the default is used",
			strings.Join(slices.Sorted(maps.Keys(schedulers)), ", "))
	}
	if c.LacksScheduler[name] {
		return value, fmt.Errorf("the kernel has no module ip_vs_%s; the default is used", name)
	}
	flags := uint32(0)
	for _, flag := range parts[1:] {
		bit, exists := known[strings.TrimSpace(flag)]
		if !exists {
			return value, fmt.Errorf("scheduler %s has no flag %q; the default is used", name, strings.TrimSpace(flag))
		}
		flags |= bit
	}
	value.Scheduler, value.Flags = name, flags
	return value, nil
}
