package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nfgenmsgBytes is the size of struct nfgenmsg, which precedes the attributes.
const nfgenmsgBytes = 4

// readTries is how often something is read that others change meanwhile.
const readTries = 3

// undisturbed reads until no transaction has come between, or readTries are over.
func undisturbed[T any](generation func() (uint32, error), read func() (T, error)) (result T, err error) {
	before, err := generation()
	if err != nil {
		return result, err
	}
	for range readTries {
		if result, err = read(); err != nil {
			return result, err
		}
		after, err := generation()
		if err != nil || after == before {
			return result, err
		}
		before = after
	}
	return result, nil
}

// generationRequest asks for the number of the last transaction.
var generationRequest = netlink.Message{
	Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
	Data:   make([]byte, nfgenmsgBytes),
}

// generation gives the number of the network namespace's last transaction (nf_tables_getgen,
// nf_tables_api.c).
func (t *Table) generation(ctx context.Context) (number uint32, err error) {
	err = t.do(ctx, func(*nftables.Conn) error {
		answers, err := t.socket.Execute(generationRequest)
		if err != nil {
			return err
		}
		if len(answers) != 1 || len(answers[0].Data) < nfgenmsgBytes {
			return errors.New("no answer about the generation")
		}
		attributes, err := netlink.NewAttributeDecoder(answers[0].Data[nfgenmsgBytes:])
		if err != nil {
			return err
		}
		attributes.ByteOrder = binary.BigEndian
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_GEN_ID {
				number = attributes.Uint32()
			}
		}
		return attributes.Err()
	})
	if err != nil {
		return 0, fmt.Errorf("generation of nftables: %w", err)
	}
	return number, nil
}
