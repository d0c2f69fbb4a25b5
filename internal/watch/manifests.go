package watch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/state"
)

const manifestsKind = "manifests"

// Manifests is the Source that reads YAML or JSON manifests from a directory (not those
// below it) or from one file, and reads them again when they change. A set of manifests
// counts as a whole: if anything in it is wrong, the last good state stays.
type Manifests struct {
	*statusBoard
	path      string
	selectors selectors
	logger    *slog.Logger
	names     intern.Names
	// settle is how long the files must be left alone before they are read: an editor
	// or a ConfigMap volume makes several changes in one go.
	settle time.Duration
	// again is how often they are read without any sign of change.
	again time.Duration

	// seen identifies the content last committed and full its files with any content;
	// noted holds the remarks last logged.
	seen  uint64
	full  map[string]bool
	noted []string
	seed  maphash.Seed
}

// selectors is a Selection whose selectors have been parsed.
type selectors struct {
	Selection
	services, labels, namespaces labels.Selector
}

func parseSelectors(s Selection) (selectors, error) {
	out := selectors{Selection: s}
	var broken error
	parse := func(what, text string) labels.Selector {
		selector, err := labels.Parse(text)
		if err != nil {
			broken = errors.Join(broken, fmt.Errorf("%s: label selector %q: %w", what, text, err))
		}
		return selector
	}
	out.services = parse("services", joinSelectors(s.ServiceLabels, s.Labels))
	out.labels = parse("labels", s.Labels)
	out.namespaces = parse("namespaces", s.NamespaceLabels)
	return out, broken
}

// NewManifests prepares a Source; nothing is read yet, and path need not exist yet. A
// nil logger means slog.Default.
func NewManifests(path string, selection Selection, logger *slog.Logger) (Source, error) {
	if path == "" {
		return nil, errors.New("manifests: no path: name a directory or file of YAML manifests")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("manifests %s: %w", path, err)
	}
	parsed, err := parseSelectors(selection)
	if err != nil {
		return nil, err
	}
	logger = orDefault(logger)
	return &Manifests{
		statusBoard: newStatusBoard(logger, manifestsKind), path: absolute, selectors: parsed, logger: logger,
		settle: 50 * time.Millisecond, again: 10 * time.Second, seed: maphash.MakeSeed(),
	}, nil
}

// Run reads the manifests, and again on each change, until ctx ends.
func (m *Manifests) Run(ctx context.Context, store *state.Store) error {
	var events chan fsnotify.Event
	var lost chan error
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		m.logger.Warn("file changes are not notified; reading again from time to time", "every", m.again, "error", err)
	} else {
		defer notify.Close()
		events, lost = notify.Events, notify.Errors
	}
	wake := time.NewTimer(0)
	defer wake.Stop()
	var first time.Time // of the changes not yet read
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			if now := time.Now(); m.concerns(event.Name) {
				if first.IsZero() {
					first = now
				}
				if now.Sub(first) < patience*m.settle {
					wake.Reset(m.settle)
				}
			}
		case <-lost: //nolint:errcheck // whatever it was, everything is read again
			wake.Reset(m.settle)
		case <-wake.C:
			if notify != nil {
				m.observe(notify)
			}
			m.read(store)
			first = time.Time{}
			wake.Reset(m.again)
		}
	}
}

// patience says how many times the settling time a directory may keep changing before it
// is read all the same.
const patience = 20

// concerns tells whether a change of a file can change the manifests: one of them, the
// link of a ConfigMap volume, or a directory on the way.
func (m *Manifests) concerns(name string) bool {
	return name == m.path || filepath.Dir(name) == m.path || filepath.Base(name) == "..data" ||
		strings.HasPrefix(m.path, strings.TrimSuffix(name, "/")+"/")
}

// observe watches the directory and what is above it: files are replaced by renaming,
// ConfigMap volumes by swapping a link, and the directory may appear later. Adding what
// is watched already changes nothing.
func (m *Manifests) observe(notify *fsnotify.Watcher) {
	for path := m.path; ; path = filepath.Dir(path) {
		err := notify.Add(path)
		if (err == nil && path != m.path) || path == filepath.Dir(path) {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.logger.Debug("not watched", "path", path, "error", err)
		}
	}
}

// read reads everything and commits it as one snapshot if it is right.
func (m *Manifests) read(store *state.Store) {
	now := time.Now()
	files, err := readFiles(m.path)
	if err != nil {
		m.fail(manifestsKind, now, m.kept(store, err))
		return
	}
	content := m.fingerprint(files)
	if content == m.seen {
		m.recovered(manifestsKind, now)
		return
	}
	read, err := m.parse(files)
	if err := errors.Join(m.emptied(files), err); err != nil {
		m.fail(manifestsKind, now, m.kept(store, err))
		return
	}
	m.seen, m.full = content, make(map[string]bool)
	for _, f := range files {
		m.full[f.path] = len(f.content) > 0
	}
	m.note(read.notes)
	store.Update(now, read.commit)
	m.list(manifestsKind, now)
	m.recovered(manifestsKind, now)
}

// emptied refuses files that lost all content: as a rule somebody is writing them anew,
// and all their objects would go for that moment.
func (m *Manifests) emptied(files []file) error {
	var broken error
	for _, f := range files {
		if len(f.content) == 0 && m.full[f.path] {
			broken = errors.Join(broken, &manifestError{
				place: f.path, line: 1, text: "is empty now; to remove its objects, remove the file",
			})
		}
	}
	return broken
}

// kept says with an error what it means for what is served.
func (m *Manifests) kept(store *state.Store, err error) error {
	if store.Load().Synced {
		return fmt.Errorf("manifests %s: %w\nthe last good manifests stay in force", m.path, err)
	}
	return fmt.Errorf("manifests %s: %w\nnothing is served until this is corrected", m.path, err)
}

func (m *Manifests) parse(files []file) (*cluster, error) {
	c := newCluster(&m.selectors, &m.names)
	var broken error
	for _, f := range files {
		documents, err := parseDocuments(f.path, f.content)
		broken = errors.Join(broken, err)
		for _, d := range documents {
			broken = errors.Join(broken, c.add(d))
		}
	}
	if broken == nil {
		broken = c.finish()
	}
	return c, broken
}

// note logs remarks that were not logged at the last reading.
func (m *Manifests) note(notes []string) {
	for _, note := range notes {
		if !slices.Contains(m.noted, note) {
			m.logger.Warn(note)
		}
	}
	m.noted = notes
}

// A file is a manifest file with its content.
type file struct {
	path    string
	content []byte
}

// readFiles reads a file, or those of a directory that are manifests by name, in the
// order of their names.
func readFiles(path string) ([]file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = manifestNames(path); err != nil {
			return nil, err
		}
	}
	var files []file
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, content})
	}
	return files, nil
}

func manifestNames(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		switch name := entry.Name(); filepath.Ext(name) {
		case ".yaml", ".yml", ".json":
			// Hidden files are editors' own, or the machinery of a ConfigMap volume.
			if !entry.IsDir() && !strings.HasPrefix(name, ".") {
				names = append(names, filepath.Join(directory, name))
			}
		}
	}
	return names, nil
}

// fingerprint is never 0, which stands for nothing read.
func (m *Manifests) fingerprint(files []file) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	for _, f := range files {
		fmt.Fprintf(&h, "%s\x00%d\x00", f.path, len(f.content))
		h.Write(f.content)
	}
	return h.Sum64() | 1
}
