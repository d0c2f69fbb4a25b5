package vm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// describe writes the run as assignments that bash reads: see guest/launch.sh.
func describe(spec Spec) string {
	var b strings.Builder
	environment := append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
	}, spec.Env...)
	fmt.Fprintf(&b, "network=%s\n", flag(spec.Network))
	fmt.Fprintf(&b, "merged=%s\n", flag(spec.merged()))
	fmt.Fprintf(&b, "dir=%s\n", quote(spec.Dir))
	fmt.Fprintf(&b, "environment=(%s)\n", quoteAll(environment))
	fmt.Fprintf(&b, "argv=(%s)\n", quoteAll(spec.Argv))
	fmt.Fprintf(&b, "collect=(%s)\n", quoteAll(collected(spec)))
	return b.String()
}

// flag is a truth value for the shell's test -n.
func flag(set bool) string {
	if set {
		return "yes"
	}
	return ""
}

// collected is the sorted list of wanted paths, relative to the root.
func collected(spec Spec) []string {
	var names []string
	for _, guest := range slices.Sorted(maps.Keys(spec.Collect)) {
		names = append(names, relative(guest))
	}
	return names
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// quote makes one word of the shell out of any string.
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
