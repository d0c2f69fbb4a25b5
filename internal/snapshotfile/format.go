// Package snapshotfile keeps the last known state of a cluster in a file, so that a process can
// serve when it starts while the API server is away.
//
// A file is written in one go beside its name and then renamed, and has a checksum: what can be
// read is whole. It says what it was made for, and is refused by everybody else. The format is
//
//	magic, 8 octets; format version, 4 octets, big endian
//	a DEFLATE stream of gob: Header, then one record for each object, then their number
//	CRC-32C of all that, 4 octets, big endian
//
// What is kept are records of this package and not the model itself, so that the model can change
// without a new format.
package snapshotfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

const (
	magic = "MOORSNAP"
	// version is to grow when an older reader would misunderstand a file.
	version    = 1
	prefixSize = len(magic) + 4
	sumSize    = crc32.Size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header says what a file is about.
type Header struct {
	// AsOf is the time at which the objects were last known to be current.
	AsOf time.Time
	// Identity is what the file was made for.
	Identity Identity
	// Addresses are those by which the node is known, as text; none if it does not matter.
	Addresses []string
}

// Identity is what has to be the same for a file to be of use: the cluster, the selection of its
// objects, and the node, empty where it does not matter.
type Identity struct {
	Cluster   string
	Selection string
	Node      string
}

// differs says in what a file's identity is not the one that is wanted; empty if in nothing.
func (i Identity) differs(want Identity) string {
	switch {
	case i.Cluster != want.Cluster:
		return fmt.Sprintf("it is of the cluster %q, not %q", i.Cluster, want.Cluster)
	case i.Node != want.Node:
		return fmt.Sprintf("it is of the node %q, not %q", i.Node, want.Node)
	case i.Selection != want.Selection:
		return fmt.Sprintf("it was written with another configuration (%s, not %s)", i.Selection, want.Selection)
	}
	return ""
}

func prefix() []byte { return binary.BigEndian.AppendUint32([]byte(magic), version) }

// checkPrefix tells whether a file is one of ours and of this version.
func checkPrefix(head []byte) error {
	if len(head) < prefixSize || string(head[:len(magic)]) != magic {
		return errors.New("it is not a snapshot of Mooring")
	}
	if v := binary.BigEndian.Uint32(head[len(magic):]); v != version {
		return fmt.Errorf("its format is version %d, and this program reads version %d", v, version)
	}
	return nil
}
