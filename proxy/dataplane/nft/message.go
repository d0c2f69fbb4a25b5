package nft

import (
	"errors"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// elementRequest asks for one element of a set, or for all of them.
func elementRequest(flags netlink.HeaderFlags, set string, element []byte) (netlink.Message, error) {
	attributes := netlink.NewAttributeEncoder()
	attributes.String(unix.NFTA_SET_ELEM_LIST_TABLE, TableName)
	attributes.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	if element != nil {
		nest := func(kind uint16, inner func(*netlink.AttributeEncoder)) func(*netlink.AttributeEncoder) {
			return func(outer *netlink.AttributeEncoder) {
				outer.Nested(kind, func(e *netlink.AttributeEncoder) error { inner(e); return nil })
			}
		}
		value := func(e *netlink.AttributeEncoder) { e.Bytes(unix.NFTA_DATA_VALUE, element) }
		nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nest(unix.NFTA_LIST_ELEM, nest(unix.NFTA_SET_ELEM_KEY, value)))(attributes)
	}
	data, err := attributes.Encode()
	return netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM, Flags: netlink.Request | flags},
		Data:   append([]byte{byte(nftables.TableFamilyINet), 0, 0, 0}, data...), // struct nfgenmsg
	}, err
}

// addElements adds the objects whose elements are in a message.
func addElements(result plan.Plan, kind plan.Kind, f family, data []byte) error {
	if len(data) < nfgenmsgBytes {
		return errors.New("message about elements without a header")
	}
	return within(data[nfgenmsgBytes:], unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list []byte) error {
		return within(list, unix.NFTA_LIST_ELEM, func(attributes []byte) error {
			var e nftables.SetElement
			err := errors.Join(
				within(attributes, unix.NFTA_SET_ELEM_KEY, octets(&e.Key)),
				within(attributes, unix.NFTA_SET_ELEM_DATA, octets(&e.Val)),
			)
			if key, wrong := decode(kind, f, e.Key); wrong == nil {
				result[key] = value(kind, e)
			}
			return err
		})
	})
}

// octets takes the value of data.
func octets(value *[]byte) func(data []byte) error {
	return func(data []byte) error {
		return within(data, unix.NFTA_DATA_VALUE, func(octets []byte) error { *value = octets; return nil })
	}
}

// within calls visit with the attributes of a kind.
func within(data []byte, kind uint16, visit func([]byte) error) error {
	attributes, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	for attributes.Next() {
		if attributes.Type() == kind {
			attributes.Do(visit)
		}
	}
	return attributes.Err()
}
