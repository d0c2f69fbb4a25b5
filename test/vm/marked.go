package vm

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
)

// newMark makes up the bytes that end every stream of one run. They are
// random, so that no output contains them by accident.
func newMark() string {
	random := make([]byte, 16)
	// Never fails: see crypto/rand.
	_, _ = rand.Read(random)
	return "end-" + hex.EncodeToString(random)
}

// marked reads a stream up to its end mark, and then says io.EOF.
//
// The guest's driver returns from a write to a port before the host has taken
// the bytes (drivers/char/virtio_console.c, port_fops_write), and ports do not
// wait for each other: only what arrives on the port itself can say that
// everything before it has arrived.
type marked struct {
	from  io.Reader
	mark  []byte
	chunk []byte // what a read fills
	held  []byte // read, but possibly the beginning of the mark
	ready []byte // read, and surely not part of it
	err   error  // what to say when ready is used up
}

func newMarked(from io.Reader, mark string) *marked {
	return &marked{from: from, mark: []byte(mark), chunk: make([]byte, 64<<10)}
}

func (m *marked) Read(p []byte) (int, error) {
	for len(m.ready) == 0 && m.err == nil {
		m.fill()
	}
	if len(m.ready) == 0 {
		return 0, m.err
	}
	n := copy(p, m.ready)
	m.ready = m.ready[n:]
	return n, nil
}

// fill reads once more and sorts what it holds.
func (m *marked) fill() {
	n, err := m.from.Read(m.chunk)
	m.held = append(m.held, m.chunk[:n]...)
	switch {
	case bytes.HasSuffix(m.held, m.mark):
		m.ready, m.err = bytes.TrimSuffix(m.held, m.mark), io.EOF
	case err != nil:
		m.ready, m.err = m.held, err
	default:
		certain := max(0, len(m.held)-len(m.mark))
		m.ready = m.held[:certain]
		m.held = bytes.Clone(m.held[certain:])
	}
}
