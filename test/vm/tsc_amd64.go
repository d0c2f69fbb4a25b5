package vm

import "time"

// timestamp reads the processor's time-stamp counter.
func timestamp() uint64

// tscSettle is how long the counter is measured: its rate is then known to a few parts in ten
// thousand, as the kernel's own calibration would.
const tscSettle = 50 * time.Millisecond

// tscKilohertz measures the rate of the time-stamp counter. An emulated guest sees the host's
// counter but measures its rate against emulated timers, which come late when the host is busy;
// its clock then runs several times too fast. So it is told (tsc_early_khz, kernel 5.1).
func tscKilohertz() uint64 {
	began, first := time.Now(), timestamp()
	time.Sleep(tscSettle)
	last, took := timestamp(), time.Since(began)
	return (last - first) * uint64(time.Millisecond) / uint64(took)
}
