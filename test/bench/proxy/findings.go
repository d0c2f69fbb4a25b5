package main

import (
	"time"

	"github.com/mooring-project/mooring/test/bench/proxy/measured"
	"github.com/mooring-project/mooring/test/bench/report"
	"github.com/mooring-project/mooring/test/peers"
)

// findings are all runs.
type findings []measured.Run

// of gives the runs of a subject beside so many Services: for times, or those that were listened to.
func (f findings) of(s peers.Subject, services int, heard bool) findings {
	var some findings
	for _, run := range f {
		if run.Subject == s && run.Services == services && run.Heard == heard {
			some = append(some, run)
		}
	}
	return some
}

// changes are those of all runs that were followed in time.
func (f findings) changes() (all []measured.Change, late int) {
	for _, run := range f {
		for _, c := range run.Changes {
			if c.Latency == 0 {
				late++
				continue
			}
			all = append(all, c)
		}
	}
	return all, late
}

// median gives the middle of a figure of all runs that have it; 0 if none has.
func (f findings) median(figure func(measured.Run) float64) float64 {
	var have []float64
	for _, x := range report.Column(f, figure) {
		if x != 0 {
			have = append(have, x)
		}
	}
	if len(have) == 0 {
		return 0
	}
	return report.Median(have)
}

func seconds(d time.Duration) float64 { return d.Seconds() }

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// The figures of a subject beside so many Services; 0 stands for none.

func (f findings) firstSync(s peers.Subject, services int) float64 {
	return f.of(s, services, false).median(func(r measured.Run) float64 { return seconds(r.First.All) })
}

func (f findings) firstCPU(s peers.Subject, services int) float64 {
	return f.of(s, services, false).median(func(r measured.Run) float64 {
		if r.First.All == 0 {
			return 0
		}
		return seconds(r.First.CPU)
	})
}

// change gives the time of one change in ms that p of a hundred do not exceed.
func (f findings) change(s peers.Subject, services, p int) float64 {
	changes, late := f.of(s, services, false).changes()
	if late > 0 || len(changes) == 0 {
		return 0
	}
	return report.Percentile(report.Column(changes, func(c measured.Change) float64 { return ms(c.Latency) }), p)
}

// changeCPU gives the processor time of one change in ms.
func (f findings) changeCPU(s peers.Subject, services int) float64 {
	changes, _ := f.of(s, services, false).changes()
	if len(changes) == 0 {
		return 0
	}
	return report.Median(report.Column(changes, func(c measured.Change) float64 { return ms(c.CPU) }))
}

func (f findings) steady(s peers.Subject, services int) float64 {
	return f.of(s, services, false).median(func(r measured.Run) float64 { return r.Memory.Steady })
}

// relistRatio is the peak of a relist to the steady memory of the same run.
func (f findings) relistRatio(s peers.Subject, services int) float64 {
	return append(f.of(s, services, false), f.of(s, services, true)...).median(func(r measured.Run) float64 {
		if r.Relist == nil {
			return 0
		}
		return r.Relist.Peak / r.Memory.Steady
	})
}
