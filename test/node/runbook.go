package node

import (
	"fmt"
	"os"
	"strings"
)

// A step is a section of a runbook: its heading and the commands of its code blocks.
type step struct {
	heading  string
	commands []string
}

// readRunbook gives the sections of a document that have commands: what stands between ```sh and
// ```. Blocks of ```text are passed over.
func readRunbook(path string) ([]step, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var steps []step
	const commands, words = "```sh", "```text"
	current, block, inside := step{}, "", ""
	flush := func() {
		if len(current.commands) > 0 {
			steps = append(steps, current)
		}
	}
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimRight(line, "\n")
		heading, isHeading := strings.CutPrefix(trimmed, "## ")
		switch {
		case inside != "" && trimmed == "```":
			if inside == commands {
				current.commands = append(current.commands, block)
			}
			block, inside = "", ""
		case inside != "":
			block += line
		case trimmed == commands, trimmed == words:
			inside = trimmed
		case strings.HasPrefix(trimmed, "```"):
			return nil, fmt.Errorf("%s: section %q: a code block of neither sh nor text", path, current.heading)
		case isHeading:
			flush()
			current = step{heading: heading}
		}
	}
	if inside != "" {
		return nil, fmt.Errorf("%s: section %q: a code block without end", path, current.heading)
	}
	flush()
	return steps, nil
}
