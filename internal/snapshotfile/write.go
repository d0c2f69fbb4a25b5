package snapshotfile

import (
	"compress/flate"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

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

// Write puts a snapshot into the file of that name, which nobody sees half written: it takes the
// place of an older one when all of it is on the disk. Only the owner may read it. It returns
// the file's size.
func Write(path string, header Header, snapshot *state.Snapshot) (octets int64, err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), temporaryName(path)) // mode 0600
	if err != nil {
		return 0, err
	}
	octets, err = fill(temporary, header, snapshot)
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name())
		return 0, err
	}
	return octets, syncDirectory(filepath.Dir(path))
}

// fill writes and closes a file.
func fill(f *os.File, header Header, snapshot *state.Snapshot) (octets int64, err error) {
	err = Encode(f, header, snapshot)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		octets, err = f.Seek(0, io.SeekCurrent)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return octets, err
}

// syncDirectory has the disk keep the renaming. Not every file system can.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	defer directory.Close()
	_ = directory.Sync()
	return nil
}

// temporaryName is the pattern of the names that files have until they are whole.
func temporaryName(path string) string { return "." + filepath.Base(path) + ".*.tmp" }

// leftFor is the age from which a file that was never finished has been left behind by a process
// that was killed; a younger one may be another process's at work.
const leftFor = 10 * time.Minute

// removeLeftovers removes what processes that were killed have not finished.
func removeLeftovers(path string, now time.Time) {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), temporaryName(path)))
	if err != nil {
		return // a directory whose name is a broken pattern; leftovers do no harm
	}
	for _, name := range found {
		if info, err := os.Lstat(name); err == nil && now.Sub(info.ModTime()) > leftFor {
			os.Remove(name)
		}
	}
}
