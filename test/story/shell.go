package story

import (
	"path"
	"strings"
)

// shellLine shows a command as one would type it: programs without their
// directory, and a script alone instead of sh -c.
func shellLine(command []string) string {
	if len(command) == 3 && command[0] == "sh" && command[1] == "-c" {
		return command[2]
	}
	words := []string{path.Base(command[0])}
	for _, w := range command[1:] {
		if strings.ContainsAny(w, " \t\"$&|;<>()*?") {
			w = "'" + w + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}
