package watch

import (
	"log/slog"
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
	return append([]KindStatus(nil), b.kinds...)
}

// list notes that everything of a kind has been read.
func (b *statusBoard) list(kind string, now time.Time) {
	b.change(kind, func(s *KindStatus) { s.Listed, s.Contact = now, now })
}

// contact notes a sign of life.
func (b *statusBoard) contact(kind string, now time.Time) {
	b.change(kind, func(s *KindStatus) { s.Contact = now })
}

func (b *statusBoard) change(kind string, change func(*KindStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.kinds {
		if b.kinds[i].Kind == kind {
			change(&b.kinds[i])
		}
	}
}

// recovered notes that a kind can be read, and says so if nothing could be before.
func (b *statusBoard) recovered(kind string, now time.Time) {
	var before error
	b.change(kind, func(s *KindStatus) {
		before = s.Err
		s.Err, s.ErrSince, s.Contact = nil, time.Time{}, now
	})
	if before != nil && !b.reported(before) {
		b.logger.Info("reading again", "after", before)
	}
}

// fail notes why a kind cannot be read, and logs it unless another kind has just
// reported the same.
func (b *statusBoard) fail(kind string, now time.Time, err error) {
	known := b.reported(err)
	b.change(kind, func(s *KindStatus) {
		if s.Err == nil {
			s.ErrSince = now
		}
		s.Err = err
	})
	if !known {
		for line := range strings.Lines(err.Error()) {
			b.logger.Error(strings.TrimSuffix(line, "\n"))
		}
	}
}

// reported tells whether a kind is in the same trouble now.
func (b *statusBoard) reported(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.kinds {
		if b.kinds[i].Err != nil && b.kinds[i].Err.Error() == err.Error() {
			return true
		}
	}
	return false
}
