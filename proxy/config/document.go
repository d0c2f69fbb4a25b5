package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Document gives the list of all flags as a Markdown table.
func Document() string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	flagSet(newSettings(), &Command{}).VisitAll(func(f *pflag.Flag) {
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand
		}
		usual := f.DefValue
		if usual != "" {
			usual = "`" + usual + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, usual, f.Usage)
	})
	return b.String()
}
