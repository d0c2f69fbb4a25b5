package snapshotfile

import (
	"compress/flate"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/mooring-project/mooring/internal/atomicfile"
	"github.com/mooring-project/mooring/internal/state"
)

// Encode writes a snapshot object by object: it never holds a second copy of it.
func Encode(w io.Writer, header Header, snapshot *state.Snapshot) error {
	sum := crc32.New(castagnoli)
	body := io.MultiWriter(w, sum)
	if _, err := body.Write(prefix()); err != nil {
		return err
	}
	packed, err := flate.NewWriter(body, flate.BestSpeed)
	if err != nil {
		return err
	}
	e := encoder{gob: gob.NewEncoder(packed)}
	e.write(&header)
	e.snapshot(snapshot)
	e.write(&record{Count: e.count})
	if err := errors.Join(e.err, packed.Close()); err != nil {
		return err
	}
	return writeSum(w, sum)
}

func writeSum(w io.Writer, sum hash.Hash32) error {
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

// encoder writes until something goes wrong, and keeps that error.
type encoder struct {
	gob   *gob.Encoder
	count int
	err   error
	// room is where the endpoints of one slice after the other are put.
	room []endpoint
}

func (e *encoder) write(value any) {
	if e.err == nil {
		e.err = e.gob.Encode(value)
	}
}

func (e *encoder) record(r record) {
	e.write(&r)
	e.count++
}

func (e *encoder) snapshot(s *state.Snapshot) {
	for _, entry := range s.Services() {
		e.record(record{Service: fromService(entry.Service)})
		for _, slice := range entry.Slices {
			r := record{Slice: fromSlice(slice, e.room)}
			e.record(r)
			e.room = r.Slice.Endpoints
		}
	}
	for name := range s.Namespaces() {
		e.record(record{Namespace: name})
	}
	for _, node := range s.Nodes() {
		e.record(record{Node: fromNode(node)})
	}
	for _, pod := range s.Pods() {
		e.record(record{Pod: fromPod(pod)})
	}
	e.record(record{CIDRs: fromPrefixes(s.ServiceCIDRs())})
}

// Write puts a snapshot into the file of that name, in the place of an older one. It returns the
// file's size.
func Write(path string, header Header, snapshot *state.Snapshot) (octets int64, err error) {
	return atomicfile.Write(path, true, func(w io.Writer) error { return Encode(w, header, snapshot) })
}
