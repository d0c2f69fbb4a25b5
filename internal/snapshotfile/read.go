package snapshotfile

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// Contents is what a file holds.
type Contents struct {
	Header

	objects []any
}

// errDamaged stands before what is known of the damage.
var errDamaged = errors.New("it is damaged")

// Decode reads what Encode has written. The checksum is looked at before anything else.
func Decode(r io.ReadSeeker) (*Contents, error) {
	size, err := verify(r)
	if err != nil {
		return nil, err
	}
	if _, err := r.Seek(int64(prefixSize), io.SeekStart); err != nil {
		return nil, err
	}
	unpacked := flate.NewReader(bufio.NewReader(io.LimitReader(r, size-int64(prefixSize+sumSize))))
	decoder := gob.NewDecoder(bufio.NewReader(unpacked))
	c := &Contents{}
	if err := decoder.Decode(&c.Header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", errDamaged, err)
	}
	if err := c.read(decoder); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return c, nil
}

// verify checks magic, version and checksum, and gives the size.
func verify(r io.ReadSeeker) (size int64, err error) {
	head := make([]byte, prefixSize)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	if err := checkPrefix(head[:n]); err != nil {
		return 0, err
	}
	if size, err = r.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	if size < int64(prefixSize+sumSize) {
		return 0, fmt.Errorf("%w: %d octets are not a whole file", errDamaged, size)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.CopyN(sum, r, size-sumSize); err != nil {
		return 0, err
	}
	stored := make([]byte, sumSize)
	if _, err := io.ReadFull(r, stored); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(stored) != sum.Sum32() {
		return 0, fmt.Errorf("%w: the checksum is wrong", errDamaged)
	}
	return size, nil
}

// read reads all records.
func (c *Contents) read(decoder *gob.Decoder) error {
	names := new(intern.Names)
	for {
		var r record
		if err := decoder.Decode(&r); err != nil {
			return fmt.Errorf("record %d: %w", len(c.objects), err)
		}
		if r.Count > 0 {
			if r.Count != len(c.objects) {
				return fmt.Errorf("%d records, not %d", len(c.objects), r.Count)
			}
			return nil
		}
		object, err := r.object(names)
		if err != nil {
			return err
		}
		c.objects = append(c.objects, object)
	}
}

// Fill puts all objects into a transaction.
func (c *Contents) Fill(tx *state.Txn) {
	for _, object := range c.objects {
		switch o := object.(type) {
		case *model.Service:
			tx.PutService(o)
		case *model.EndpointSlice:
			tx.PutSlice(o)
		case *model.Namespace:
			tx.PutNamespace(o)
		case *model.Node:
			tx.PutNode(o)
		case *model.Pod:
			tx.PutPod(o)
		case []netip.Prefix:
			tx.SetServiceCIDRs(o)
		}
	}
}

// Read opens and decodes a file. An error that matches fs.ErrNotExist says that there is none.
func Read(path string) (*Contents, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for a writer
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Decode(f)
}

// Acceptance says which files are of use.
type Acceptance struct {
	Identity Identity
	// MaxAge is how old the objects may be; 0 means that age does not matter.
	MaxAge time.Duration
	// Here tells whether the node has an address; nil if it does not matter.
	Here func(netip.Addr) bool
}

// maxSkew is how far in the future a file may be for its clock to count as ours.
const maxSkew = 5 * time.Minute

// Check says why contents are of no use here and now; nil if they are.
func (a *Acceptance) Check(h *Header, now time.Time) error {
	if differs := h.Identity.differs(a.Identity); differs != "" {
		return errors.New(differs)
	}
	switch age := now.Sub(h.AsOf); {
	case age < -maxSkew:
		return fmt.Errorf("it is as of %s, which is %s in the future: one clock is or was wrong",
			h.AsOf.UTC().Format(time.RFC3339), (-age).Round(time.Second))
	case a.MaxAge > 0 && age > a.MaxAge:
		return fmt.Errorf("it is as of %s ago, and the limit is %s", age.Round(time.Second), a.MaxAge)
	}
	if a.Here == nil || len(h.Addresses) == 0 {
		return nil
	}
	if !slices.ContainsFunc(h.Addresses, a.hasAddress) {
		return fmt.Errorf("it is of a node with other addresses: %v", h.Addresses)
	}
	return nil
}

func (a *Acceptance) hasAddress(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && a.Here(addr)
}
