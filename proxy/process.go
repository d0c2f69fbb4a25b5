package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/proxy/config"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
	"github.com/mooring-project/mooring/proxy/metrics"
)

// setProcess sets what concerns this process and the connection tracking of the host. What goes
// wrong is logged: Services can be served all the same.
func setProcess(c config.Config, logger *slog.Logger) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(c.OOMScoreAdj)), 0o644); err != nil {
		logger.Warn("oomScoreAdj not set", "err", err)
	}
	if err := setConntrack(c.Conntrack, runtime.NumCPU(), sysctl.Get, sysctl.Ensure); err != nil {
		logger.Warn("conntrack not set", "err", err)
	}
}

// conntrackMost bounds the number that grows with the processors, as in kube-proxy.
const conntrackMost = 1 << 20

// conntrackMax gives the number of connections that shall fit; 0 leaves what is there.
func conntrackMax(c config.Conntrack, processors int) int {
	if c.MaxPerCore <= 0 {
		return 0
	}
	if scaled := c.MaxPerCore * processors; scaled <= conntrackMost {
		return max(scaled, c.Min)
	}
	return conntrackMost
}

// setConntrack sets the parameters of the kernel's connection tracking that are asked for. The
// number of connections is never made smaller.
func setConntrack(c config.Conntrack, processors int, get func(name string) (string, error), set func(name, value string) error) error {
	const prefix = "net/netfilter/nf_conntrack_"
	var errs []error
	atLeast := func(name string, wanted int) error {
		text, err := get(name)
		if present, wrong := strconv.Atoi(text); err != nil || wrong == nil && present >= wanted {
			return err
		}
		return set(name, strconv.Itoa(wanted))
	}
	if wanted := conntrackMax(c, processors); wanted > 0 {
		errs = append(errs, atLeast(prefix+"max", wanted), atLeast(prefix+"buckets", wanted/4))
	}
	for _, timeout := range []struct {
		name  string
		value time.Duration
	}{
		{"tcp_timeout_established", c.TCPEstablished},
		{"tcp_timeout_close_wait", c.TCPCloseWait},
		{"udp_timeout", c.UDP},
		{"udp_timeout_stream", c.UDPStream},
	} {
		if timeout.value > 0 {
			errs = append(errs, set(prefix+timeout.name, fmt.Sprint(int(timeout.value/time.Second))))
		}
	}
	if c.TCPBeLiberal {
		errs = append(errs, set(prefix+"tcp_be_liberal", "1"))
	}
	return errors.Join(errs...)
}

// readConntrack tells how full the connection tracking of the host is; that is not known where the
// kernel has none yet.
func readConntrack() (table metrics.Conntrack, known bool) {
	number := func(name string) uint64 {
		text, err := sysctl.Get("net/netfilter/nf_conntrack_" + name)
		if err != nil {
			return 0
		}
		value, _ := strconv.ParseUint(text, 10, 64) // the kernel writes a number
		return value
	}
	table.Entries, table.Limit = number("count"), number("max")
	statistics, err := os.ReadFile("/proc/net/stat/nf_conntrack")
	if err != nil {
		return table, table.Limit > 0
	}
	table.Dropped = droppedBy(string(statistics))
	return table, table.Limit > 0
}

// droppedBy adds up the column drop, in hexadecimal, of all processors.
func droppedBy(statistics string) (dropped uint64) {
	lines := strings.Split(strings.TrimSpace(statistics), "\n")
	names := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			if i < len(names) && names[i] == "drop" {
				value, _ := strconv.ParseUint(field, 16, 64) // the kernel writes a number
				dropped += value
			}
		}
	}
	return dropped
}
