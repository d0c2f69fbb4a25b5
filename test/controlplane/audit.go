package controlplane

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// auditPolicy has the API server write down what is asked, and nothing of the contents.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
  - level: Metadata
    omitStages: [RequestReceived]
`

// A Trail is what the API server was asked, by whom, when it was started with Flags.
type Trail struct {
	// Flags are for Options.APIServerFlags.
	Flags []string
	path  string
}

// NewTrail makes the API server's audit log in a directory.
func NewTrail(directory string) (*Trail, error) {
	policy, path := filepath.Join(directory, "audit-policy.yaml"), filepath.Join(directory, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return &Trail{Flags: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + path}, path: path}, nil
}

// Uses are what a user asked for, as "verb resource.group", and whether it was ever refused.
type Uses map[string]bool

// Uses reads what a user has asked for until now.
func (t *Trail) Uses(user string) (Uses, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer file.Close()
	uses := Uses{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Verb           string
			User           struct{ Username string }
			ObjectRef      *struct{ Resource, APIGroup string }
			ResponseStatus struct{ Code int }
		}
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.User.Username != user || event.ObjectRef == nil {
			continue // the last line may be half written
		}
		use := Use(event.Verb, event.ObjectRef.Resource, event.ObjectRef.APIGroup)
		uses[use] = uses[use] || event.ResponseStatus.Code == http.StatusForbidden
	}
	return uses, lines.Err()
}

// Use names what is asked for, as the keys of Uses do.
func Use(verb, resource, group string) string {
	return verb + " " + strings.TrimSuffix(resource+"."+group, ".")
}
