package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// idleFlags defines the flags of kube-proxy that have no effect here; those that lie on a field
// of the file are warned of with it.
func idleFlags(f *pflag.FlagSet, s *settings) {
	const accepted = "no effect, accepted because kube-proxy has it"
	f.StringVar((*string)(&s.Mode), "proxy-mode", string(s.Mode), accepted+": always ipvs")
	f.DurationVar(&s.IPVS.MinSyncPeriod.Duration, "ipvs-min-sync-period", s.IPVS.MinSyncPeriod.Duration, accepted)
	f.StringSliceVar(&s.IPVS.ExcludeCIDRs, "ipvs-exclude-cidrs", s.IPVS.ExcludeCIDRs, accepted)
	f.BoolVar(&s.IPVS.StrictARP, "ipvs-strict-arp", s.IPVS.StrictARP, accepted)
	f.DurationVar(&s.IPTables.SyncPeriod.Duration, "iptables-sync-period", s.IPTables.SyncPeriod.Duration, accepted)
	f.DurationVar(&s.IPTables.MinSyncPeriod.Duration, "iptables-min-sync-period", s.IPTables.MinSyncPeriod.Duration, accepted)
	f.DurationVar(&s.ConfigSyncPeriod.Duration, "config-sync-period", s.ConfigSyncPeriod.Duration, accepted)
	f.StringVar(&s.ShowHiddenMetricsForVersion, "show-hidden-metrics-for-version", s.ShowHiddenMetricsForVersion, accepted)
	f.DurationVar(&s.Logging.FlushFrequency.Duration.Duration, "log-flush-frequency", s.Logging.FlushFrequency.Duration.Duration, accepted)
	for _, name := range []string{"vmodule", "boot-id-file", "machine-id-file"} {
		f.String(name, "", accepted)
	}
}

// ignoredFlags names those given that lie on no field.
func ignoredFlags(flags *pflag.FlagSet) []string {
	var warnings []string
	for _, name := range []string{"vmodule", "boot-id-file", "machine-id-file"} {
		if flags.Changed(name) {
			warnings = append(warnings, fmt.Sprintf("--%s has no effect", name))
		}
	}
	return warnings
}

// gates is a flag of names with true or false; what it names is added to what there is.
type gates map[string]bool

// String gives the gates as the flag takes them.
func (g *gates) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(*g)) {
		parts = append(parts, fmt.Sprintf("%s=%t", name, (*g)[name]))
	}
	return strings.Join(parts, ",")
}

// Set adds gates.
func (g *gates) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		on, err := strconv.ParseBool(value)
		if err != nil || name == "" {
			return fmt.Errorf("%q: write name=true or name=false", part)
		}
		if *g == nil {
			*g = gates{}
		}
		(*g)[name] = on
	}
	return nil
}

// Type names the value in the help text.
func (g *gates) Type() string { return "name=bool,..." }
