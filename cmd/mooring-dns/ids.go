package main

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// randomBatch holds random octets not used yet.
type randomBatch struct {
	octets [512]byte
	used   int
}

var randomBatches = sync.Pool{New: func() any { return &randomBatch{used: len(randomBatch{}.octets)} }}

// randomID gives an unpredictable message ID (RFC 5452 section 9.2). It takes the place of
// dns.Id, which asks the kernel for two octets at a time; the plugin loadbalance asks it
// once for each record of an answer.
func randomID() uint16 {
	b := randomBatches.Get().(*randomBatch)
	defer randomBatches.Put(b)
	if b.used == len(b.octets) {
		rand.Read(b.octets[:]) // never fails, as of Go 1.24
		b.used = 0
	}
	id := binary.NativeEndian.Uint16(b.octets[b.used:])
	b.used += 2
	return id
}
