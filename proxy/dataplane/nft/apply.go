package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/google/nftables"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Apply does operations on set elements, all of them in one transaction if the kernel
// takes it. If not, it halves them until the bad ones are alone, so that these do not
// keep the others out. It returns what was done, and the errors of the rest.
func (t *Table) Apply(ctx context.Context, ops []plan.Op) (done []plan.Op, err error) {
	if len(ops) == 0 {
		return nil, nil
	}
	err = t.transaction(ctx, ops)
	switch {
	case err == nil:
		return ops, nil
	case fatal(ctx, err):
		return nil, fmt.Errorf("%d set elements, the first %s: %w", len(ops), ops[0], err)
	case len(ops) == 1 && ops[0].Verb == plan.Delete && errors.Is(err, syscall.ENOENT):
		return ops, nil
	case len(ops) == 1 && slices.Contains(mapKinds, ops[0].Key.Kind) && ops[0].Verb != plan.Delete:
		return t.replace(ctx, ops[0], err)
	case len(ops) == 1:
		return nil, fmt.Errorf("%s: %w", ops[0], t.explain(ctx, err))
	}
	half := len(ops) / 2
	done, err = t.Apply(ctx, ops[:half])
	more, err2 := t.Apply(ctx, ops[half:])
	return slices.Concat(done, more), errors.Join(err, err2)
}

// replace writes an element of a map whatever is there: the kernel refuses to change what
// is there, and to delete what is not.
func (t *Table) replace(ctx context.Context, op plan.Op, err error) ([]plan.Op, error) {
	switch {
	case op.Verb == plan.Add && (errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY)):
		op.Verb = plan.Update
	case op.Verb == plan.Update && errors.Is(err, syscall.ENOENT):
		op.Verb = plan.Add
	default:
		return nil, fmt.Errorf("%s: %w", op, t.explain(ctx, err))
	}
	if again := t.transaction(ctx, []plan.Op{op}); again != nil {
		return nil, fmt.Errorf("%s: %w", op, t.explain(ctx, again))
	}
	return []plan.Op{op}, nil
}

// fatal recognises errors that fewer elements will not cure.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, ErrNoTable)
}

// explain tells a missing table from a missing element.
func (t *Table) explain(ctx context.Context, err error) error {
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	if current, probe := t.current(ctx); probe == nil && !current {
		return fmt.Errorf("%w: %w", ErrNoTable, err)
	}
	return err
}

func (t *Table) transaction(ctx context.Context, ops []plan.Op) error {
	replaced, add, remove := plan.Plan{}, plan.Plan{}, plan.Plan{}
	covers := false
	for _, op := range ops {
		covers = covers || slices.Contains(intervalKinds, op.Key.Kind)
		switch {
		case op.Verb == plan.Delete:
			remove[op.Key] = plan.Value{}
			continue
		case op.Verb == plan.Update && slices.Contains(mapKinds, op.Key.Kind):
			replaced[op.Key] = plan.Value{}
		}
		add[op.Key] = op.Value
	}
	var intervals plan.Plan
	if covers {
		kept, err := t.read(ctx, true, intervalKinds)
		if err != nil {
			return err
		}
		intervals = plan.Apply(kept, ops)
	}
	err := t.do(ctx, func(conn *nftables.Conn) error {
		t.addTimeouts(conn, add)
		if err := errors.Join(t.removeElements(conn, replaced), t.addElements(conn, add), t.removeElements(conn, remove)); err != nil {
			return err
		}
		if covers {
			if err := t.addCovers(conn, intervals); err != nil {
				return err
			}
		}
		return conn.Flush()
	})
	if err == nil {
		t.noteTimeouts(ctx, ops)
	}
	return err
}

func (t *Table) addElements(conn *nftables.Conn, objects plan.Plan) error {
	return t.bySet(objects, conn.SetAddElements)
}

func (t *Table) removeElements(conn *nftables.Conn, objects plan.Plan) error {
	return t.bySet(objects, conn.SetDeleteElements)
}

// bySet queues elements, as few messages as their sets and sizes allow.
func (t *Table) bySet(objects plan.Plan, queue func(*nftables.Set, []nftables.SetElement) error) error {
	bySet := map[string][]nftables.SetElement{}
	for key, value := range objects {
		if !Holds(key.Kind) {
			return fmt.Errorf("no set holds objects of kind %s", key.Kind)
		}
		name := listName(key.Kind, familyOf(key))
		bySet[name] = append(bySet[name], element(key, value))
	}
	for name, elements := range bySet {
		for chunk := range slices.Chunk(elements, elementsPerMessage) {
			if err := queue(t.sets[name], chunk); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	return nil
}

// addCovers queues the sets that follow from the prefixes of a plan.
func (t *Table) addCovers(conn *nftables.Conn, p plan.Plan) error {
	var families []nftables.SetElement
	for _, f := range []family{ipv4, ipv6} {
		for _, kind := range prefixKinds {
			list := prefixes(p, kind, f)
			if kind == plan.PodCIDR && len(list) > 0 {
				families = append(families, nftables.SetElement{Key: []byte{f.number}})
			}
			if err := t.refill(conn, coverName(kind, f), intervals(list)); err != nil {
				return err
			}
		}
		if err := t.refill(conn, coverName(plan.FirewallAllow, f), admitted(p, f)); err != nil {
			return err
		}
	}
	return t.refill(conn, detectName, families)
}

func (t *Table) refill(conn *nftables.Conn, set string, elements []nftables.SetElement) error {
	conn.FlushSet(t.sets[set])
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		if err := conn.SetAddElements(t.sets[set], chunk); err != nil {
			return fmt.Errorf("set %s: %w", set, err)
		}
	}
	return nil
}
