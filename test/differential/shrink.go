package differential

import "maps"

// shrink takes objects away, first many at once, as long as a difference between the
// same parts of the two answers to the same query remains, and gives what is left.
func (w *world) shrink(d *difference) (*difference, error) {
	for size := len(d.objects); size > 0; size /= 2 {
		keys := d.objects.keys()
		for start := 0; start < len(keys); start += size {
			fewer := maps.Clone(d.objects)
			for _, key := range keys[start:min(start+size, len(keys))] {
				delete(fewer, key)
			}
			still, err := w.tryObjects(d, fewer)
			if err != nil {
				return d, err
			}
			if still != nil {
				d = still
			}
		}
	}
	return d, nil
}

// tryObjects compares again with other objects; nil if the difference is gone or is one
// that is allowed.
func (w *world) tryObjects(d *difference, c cluster) (*difference, error) {
	if err := w.show(c, d.pair.stock, d.pair.ours); err != nil {
		return nil, err
	}
	again, err := w.compare(d.pair, d.query)
	if err != nil || again == nil || again.signature() != d.signature() || allowed(again) != nil {
		return nil, err
	}
	return again, nil
}
