package config

import (
	"context"
	"errors"
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// ErrChanged says that the configuration file is not what it was. Like kube-proxy, mooring-proxy
// ends then, to be started anew with what the file says now; the kernel goes on meanwhile.
var ErrChanged = errors.New("the configuration file has changed")

// Watch returns an error that matches ErrChanged when the file at path is written or renamed,
// and nil when ctx ends or path is empty. It looks at the file itself: a ConfigMap that is mounted
// is replaced as a whole, which changes no file, and takes effect with the next start.
func Watch(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("configuration %s: watch: %w", path, err)
	}
	defer watcher.Close()
	if err := watcher.Add(path); err != nil {
		return fmt.Errorf("configuration %s: watch: %w", path, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-watcher.Events:
			if event.Has(fsnotify.Write) || event.Has(fsnotify.Rename) {
				return fmt.Errorf("configuration %s: %w", path, ErrChanged)
			}
		case err := <-watcher.Errors:
			return fmt.Errorf("configuration %s: watch: %w", path, err)
		}
	}
}
