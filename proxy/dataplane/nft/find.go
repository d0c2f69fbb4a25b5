package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Find gives those of some elements that exist, at a cost that does not depend on how many there are
// besides; of kinds that are read as a whole it reads all.
func (t *Table) Find(ctx context.Context, keys []plan.Key) (plan.Plan, error) {
	result := plan.Plan{}
	var whole []plan.Kind
	var single []plan.Key
	for _, key := range keys {
		switch {
		case !slices.Contains(wholeKinds, key.Kind):
			single = append(single, key)
		case !slices.Contains(whole, key.Kind):
			whole = append(whole, key.Kind)
		}
	}
	if len(whole) > 0 {
		all, err := t.ObserveKinds(ctx, whole...)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if value, is := all[key]; is {
				result[key] = value
			}
		}
	}
	for part := range slices.Chunk(single, perFind) {
		err := t.do(ctx, func(*nftables.Conn) error { return t.find(part, result) })
		if err != nil {
			return nil, fmt.Errorf("look at %d elements, the first %s: %w", len(part), part[0], err)
		}
	}
	return result, nil
}

// perFind is how many elements are asked for at once.
const perFind = 64

// find adds those of some elements that exist. The kernel answers each question by one message, in
// their order.
func (t *Table) find(keys []plan.Key, result plan.Plan) error {
	requests := make([]netlink.Message, len(keys))
	for i, key := range keys {
		var err error
		if requests[i], err = elementRequest(0, listName(key.Kind, familyOf(key)), encode(key)); err != nil {
			return err
		}
	}
	if _, err := t.socket.SendMessages(requests); err != nil {
		return err
	}
	for _, key := range keys {
		answers, err := t.socket.Receive()
		if errors.Is(err, unix.ENOENT) {
			continue // neither the element nor, perhaps, its set
		}
		if err != nil {
			return err
		}
		for _, m := range answers {
			if err := addElements(result, key.Kind, familyOf(key), m.Data); err != nil {
				return err
			}
		}
	}
	return nil
}
