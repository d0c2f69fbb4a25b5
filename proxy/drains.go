package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-project/mooring/internal/atomicfile"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/drain"
	"github.com/mooring-project/mooring/proxy/plan"
	"github.com/mooring-project/mooring/proxy/reconcile"
)

// drainFile keeps in a file which endpoints are leaving. It need not outlive the machine's next
// start, which ends their connections.
type drainFile struct {
	path, node string
	// uptime gives the time since the machine's start.
	uptime func() (time.Duration, error)
}

// newDrainFile gives the one that is configured, nil if there is none.
func newDrainFile(path, node string) reconcile.DrainStore {
	if path == "" {
		return nil
	}
	return drainFile{path, node, uptime}
}

// Load implements reconcile.DrainStore.
func (f drainFile) Load() (drain.Memory, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return drain.Memory{}, nil
	}
	if err != nil {
		return drain.Memory{}, err
	}
	since, err := f.uptime()
	if err != nil {
		return drain.Memory{}, err
	}
	memory, err := drain.Decode(text, f.node, time.Now(), since)
	if errors.Is(err, drain.ErrOtherStart) {
		return drain.Memory{}, nil
	}
	if err != nil {
		return drain.Memory{}, fmt.Errorf("%s: %w", f.path, err)
	}
	return memory, nil
}

// Save implements reconcile.DrainStore.
func (f drainFile) Save(memory drain.Memory) error {
	since, err := f.uptime()
	if err != nil {
		return err
	}
	text, err := memory.Encode(f.node, time.Now(), since)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	_, err = atomicfile.Write(f.path, false, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	return err
}

// uptime is told by proc_uptime(5): it does not change when the clock is set, and goes on while
// the machine sleeps.
func uptime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/uptime: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// drainsPage is what /drains answers.
type drainsPage struct {
	Leaving []leavingLine `json:"leaving"`
	Left    []leftLine    `json:"left"`
}

type leavingLine struct {
	drainLine
	Deadline    time.Time `json:"deadline"`
	Connections uint32    `json:"connections"`
}

type leftLine struct {
	drainLine
	Left time.Time `json:"left"`
	// Outcome is clean, or cut if connections were still open at the deadline, of which Cut is
	// the number.
	Outcome string `json:"outcome"`
	Cut     uint32 `json:"cut"`
}

// drainLine says of which Service's virtual server an endpoint is.
type drainLine struct {
	Service  string    `json:"service,omitempty"`
	Server   string    `json:"virtualServer"`
	Endpoint string    `json:"endpoint"`
	Since    time.Time `json:"since"`
}

func newDrainLine(service model.ServiceKey, key plan.Key, since time.Time) drainLine {
	line := drainLine{Since: since.UTC()}
	line.Service, line.Server, line.Endpoint = reconcile.Place(service, key)
	return line
}

// serveDrains answers with the endpoints that are leaving, and those that have left lately.
func serveDrains(drains func() reconcile.Drains) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		now := drains()
		page := drainsPage{Leaving: []leavingLine{}, Left: []leftLine{}}
		for _, l := range now.Leaving {
			page.Leaving = append(page.Leaving, leavingLine{newDrainLine(l.Service, l.Key, l.Since), l.Deadline.UTC(), l.Connections})
		}
		for _, l := range now.Left {
			page.Left = append(page.Left, leftLine{newDrainLine(l.Service, l.Key, l.Since), l.At.UTC(), l.Outcome(), l.Cut})
		}
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(page) //nolint:errcheck // the client has gone
	}
}
