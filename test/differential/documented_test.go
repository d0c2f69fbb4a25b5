package differential

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryExceptionIsDocumented holds the list of the manual page to the one that is tested:
// a difference has its code there, and compat stock restores what the page says it does.
func TestEveryExceptionIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../plugin/README.md")
	if err != nil {
		t.Fatal(err)
	}
	restored := make(map[string]bool)
	for _, row := range regexp.MustCompile(`(?m)^\| (D\d+) \|.*$`).FindAllStringSubmatch(string(page), -1) {
		restored[row[1]] = !strings.Contains(row[0], "; not restored |")
	}
	for _, e := range exceptions {
		code, _, _ := strings.Cut(e.code, " ")
		compat, listed := restored[code]
		if !listed {
			t.Errorf("%s: plugin/README.md has no row for it", e.code)
		} else if compat == e.compat {
			t.Errorf("%s: allowed under compat stock: %t, restored according to plugin/README.md: %t", e.code, e.compat, compat)
		}
	}
	if len(restored) < 20 {
		t.Errorf("only %d rows found", len(restored))
	}
}
