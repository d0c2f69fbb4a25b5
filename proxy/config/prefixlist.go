package config

import (
	"net/netip"
	"strings"
)

// prefixList is a flag whose value is a list of CIDRs separated by commas.
type prefixList []netip.Prefix

// String gives the list as the flag takes it.
func (l *prefixList) String() string {
	texts := make([]string, len(*l))
	for i, prefix := range *l {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Set replaces the list.
func (l *prefixList) Set(text string) error {
	list, err := prefixes("CIDR", strings.Split(text, ","))
	if err == nil {
		*l = list
	}
	return err
}

// Type names the value in the help text.
func (l *prefixList) Type() string { return "cidrs" }
