package watch

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// A statusBoard keeps the KindStatus of a source and logs errors when they change, not
// each time they occur. It is safe for concurrent use.
type statusBoard struct {
	logger *slog.Logger

	// mu guards kinds.
	mu    sync.Mutex
	kinds []KindStatus
}

func newStatusBoard(logger *slog.Logger, kinds ...string) *statusBoard {
	b := &statusBoard{logger: logger}
	for _, kind := range kinds {
		b.kinds = append(b.kinds, KindStatus{Kind: kind})
	}
	return b
}

// Status gives a copy of all kinds.
func (b *statusBoard) Status() []KindStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.kinds)
}

// list notes that everything of a kind has been read.
func (b *statusBoard) list(kind string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.find(kind)
	s.Listed, s.Contact = now, now
}

// contact notes a sign of life.
func (b *statusBoard) contact(kind string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.find(kind).Contact = now
}

// recovered notes that a kind can be read, and says so when the last kind with this
// trouble has got over it.
func (b *statusBoard) recovered(kind string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.find(kind)
	before := s.Err
	s.Err, s.ErrSince, s.Contact = nil, time.Time{}, now
	if before != nil && !b.reported(before) {
		b.logger.Info("reading again", "after", before)
	}
}

// fail notes why a kind cannot be read, and logs it line by line unless some kind is in
// the same trouble already.
func (b *statusBoard) fail(kind string, now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, s := b.reported(err), b.find(kind)
	if s.Err == nil {
		s.ErrSince = now
	}
	s.Err = err
	if known {
		return
	}
	for line := range strings.Lines(err.Error()) {
		b.logger.Error(strings.TrimSuffix(line, "\n"))
	}
}

// find gives the status of a kind that the board was made for. The caller holds mu.
func (b *statusBoard) find(kind string) *KindStatus {
	i := slices.IndexFunc(b.kinds, func(s KindStatus) bool { return s.Kind == kind })
	return &b.kinds[i]
}

// reported tells whether a kind is in this trouble now. The caller holds mu.
func (b *statusBoard) reported(err error) bool {
	return slices.ContainsFunc(b.kinds, func(s KindStatus) bool { return s.Err != nil && s.Err.Error() == err.Error() })
}
