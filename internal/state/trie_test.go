package state

import (
	"maps"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// masks leave of the hash what brings out the corners of the trie: nothing (all keys
// collide), the first digit, the last, a bit of each, and all.
var masks = []uint64{0, 0xf, 0xf << 60, 1<<63 | 1, 1 << 32, math.MaxUint64}

// keys is how many keys the property tests use: more than one digit can tell apart.
const keys = 24

// TestMapIsAMap does the same to a Map and to Go's map, and compares what both say,
// including the differences to an earlier version.
func TestMapIsAMap(t *testing.T) {
	defer func(before uint64) { hashMask = before }(hashMask)
	rapid.Check(t, func(t *rapid.T) {
		hashMask = rapid.SampledFrom(masks).Draw(t, "mask")
		type version struct {
			trie Map[int, int]
			want map[int]int
		}
		now := version{want: map[int]int{}}
		var history []version
		var by *author
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.IntRange(1, keys).Draw(t, "key")
			next := version{now.trie, maps.Clone(now.want)}
			if by == nil || rapid.Bool().Draw(t, "seen") { // by others, so that it must not change any more
				by = new(author)
				history = append(history, now)
			}
			if rapid.Bool().Draw(t, "set") {
				value := rapid.IntRange(1, 3).Draw(t, "value")
				next.trie, next.want[key] = now.trie.set(key, value, by), value
			} else {
				next.trie = now.trie.delete(key, by)
				delete(next.want, key)
			}
			now = next
		}
		history = append(history, now)
		for _, v := range history { // no later step may have changed an earlier version
			compare(t, v.trie, v.want)
		}
		old := rapid.SampledFrom(history).Draw(t, "old")
		compareDiff(t, now.trie, old.trie, now.want, old.want)
		compareDiff(t, old.trie, now.trie, old.want, now.want)
	})
}

func compare(t *rapid.T, trie Map[int, int], want map[int]int) {
	if got := maps.Collect(trie.All()); !maps.Equal(got, want) || trie.Len() != len(want) {
		t.Fatalf("contents %v, length %d, want %v", got, trie.Len(), want)
	}
	for key := range keys + 1 {
		value, found := trie.Get(key)
		if expected, exists := want[key]; value != expected || found != exists {
			t.Fatalf("Get(%v) = %d, %v, want %d, %v", key, value, found, expected, exists)
		}
	}
	if len(want) == 0 && trie.root != nil {
		t.Fatal("an empty map keeps a branch")
	}
}

func compareDiff(t *rapid.T, trie, old Map[int, int], want, before map[int]int) {
	seen := map[int]bool{}
	trie.Diff(old, func(key int, a, b int) {
		if seen[key] {
			t.Fatalf("Diff visits %v twice", key)
		}
		seen[key] = true
		if a != before[key] || b != want[key] || a == b {
			t.Fatalf("Diff visits %v with %d, %d, want %d, %d", key, a, b, before[key], want[key])
		}
	})
	for _, m := range []map[int]int{want, before} {
		for key := range m {
			if want[key] != before[key] && !seen[key] {
				t.Fatalf("Diff does not visit %v", key)
			}
		}
	}
}

// TestMapWithOrdinaryHashes holds for the hash function of production too.
func TestMapWithOrdinaryHashes(t *testing.T) {
	var m Map[int, int]
	by := new(author)
	const n = 20_000
	for i := range n {
		m = m.set(i, i+1, by)
	}
	full := m
	by = new(author)
	for i := range n {
		if value, found := m.Get(i); !found || value != i+1 {
			t.Fatalf("Get(%d) = %d, %v", i, value, found)
		}
	}
	for i := 0; i < n; i += 2 {
		m = m.delete(i, by)
	}
	if m.Len() != n/2 || full.Len() != n {
		t.Errorf("lengths %d and %d", m.Len(), full.Len())
	}
	differences := 0
	m.Diff(full, func(key, before, after int) {
		if key%2 != 0 || before != key+1 || after != 0 {
			t.Errorf("difference %d: %d, %d", key, before, after)
		}
		differences++
	})
	if differences != n/2 {
		t.Errorf("%d differences instead of %d", differences, n/2)
	}
}

func TestMapStopsIteratingWhenTold(t *testing.T) {
	var m Map[int, int]
	for i := range 100 {
		m = m.set(i, i, nil)
	}
	visits := 0
	for range m.All() {
		if visits++; visits == 3 {
			break
		}
	}
	if visits != 3 {
		t.Errorf("%d visits", visits)
	}
}

func TestMapGetDoesNotAllocate(t *testing.T) {
	var m Map[PodKey, int]
	key := PodKey{"shop", "web"}
	m = m.set(key, 1, nil)
	if n := testing.AllocsPerRun(100, func() { m.Get(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMapSet(b *testing.B) {
	var m Map[PodKey, int]
	by := new(author)
	for i := range 100_000 {
		m = m.set(PodKey{"n", string(rune(i))}, i, by)
	}
	key := PodKey{"n", "x"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.set(key, i, new(author))
	}
}
