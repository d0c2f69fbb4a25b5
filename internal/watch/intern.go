package watch

import "sync"

// internLimit bounds the memory of names that are no longer used: an interner that
// reaches it starts anew.
const internLimit = 1 << 16

// An interner makes equal strings share memory. Endpoints repeat few node names, zones
// and namespaces many times over. The zero interner is ready and safe for concurrent use.
type interner struct {
	// mu guards the maps.
	mu      sync.Mutex
	strings map[string]string
	lists   map[string][]string
}

// text gives the shared copy of s.
func (in *interner) text(s string) string {
	if s == "" {
		return ""
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.locked(s)
}

func (in *interner) locked(s string) string {
	if shared, known := in.strings[s]; known {
		return shared
	}
	if in.strings == nil || len(in.strings) >= internLimit {
		in.strings, in.lists = make(map[string]string), make(map[string][]string)
	}
	in.strings[s] = s
	return s
}

// list gives names with shared memory; a list of one name, as topology hints nearly
// always are, is shared itself. nil if empty.
func (in *interner) list(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(names) == 1 {
		name := in.locked(names[0])
		if in.lists[name] == nil {
			in.lists[name] = []string{name}
		}
		return in.lists[name]
	}
	shared := make([]string, len(names))
	for i, name := range names {
		shared[i] = in.locked(name)
	}
	return shared
}
