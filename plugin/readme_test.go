package mooring

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManualPage holds README.md to the layout of CoreDNS's manual pages (plugin.md of CoreDNS,
// Documentation): title, Name with one line, Description, Syntax, then what else there is, and
// Examples. The syntax has every property, and each is explained.
func TestManualPage(t *testing.T) {
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	if !strings.HasPrefix(page, "# mooring\n\n## Name\n\n*mooring* - ") {
		t.Errorf("the page begins with %.60q", page)
	}
	var headings []string
	for _, match := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(page, -1) {
		headings = append(headings, match[1])
	}
	if diff := cmp.Diff([]string{"Name", "Description", "Syntax"}, headings[:3]); diff != "" {
		t.Errorf("first sections (-want +got):\n%s", diff)
	}
	for _, wanted := range []string{"Examples", "Metrics", "Ready", "Bugs", "See Also"} {
		if !slices.Contains(headings, wanted) {
			t.Errorf("no section %s", wanted)
		}
	}
	_, syntax, _ := strings.Cut(page, "mooring [ZONES...] {\n")
	syntax, explained, _ := strings.Cut(syntax, "\n}\n")
	var listed []string
	for line := range strings.Lines(syntax) {
		name := strings.Fields(line)[0]
		listed = append(listed, name)
		if !regexp.MustCompile("(?m)^\\* `" + name + "[` ]|`" + name + "` \\*\\*").MatchString(explained) {
			t.Errorf("%s is not explained", name)
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(directives)), listed); diff != "" {
		t.Errorf("properties (-parsed +in the syntax):\n%s", diff)
	}
}
