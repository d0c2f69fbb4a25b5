package differential

import (
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "seed of the first random cluster, 0 for a random one; TEST_SEED has the same effect")
	clustersFlag = flag.Int("clusters", 0, "number of random clusters, 0 for as many as -budget allows")
	budgetFlag   = flag.Duration("budget", 60*time.Second, "time for random clusters")
	queriesFlag  = flag.Int("queries", 1500, "queries for each cluster, stanza and setting of compat")
	stanzaFlag   = flag.String("stanza", "", "compare only the stanzas whose name contains this")
	reportsFlag  = flag.Int("reports", 10, "number of unexplained differences to reduce and show")
)

// chosenSeed gives the seed to begin with, and logs it.
func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if text := os.Getenv("TEST_SEED"); text != "" && seed == 0 {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if seed == 0 {
		seed = rand.Uint64() >> 12
	}
	t.Logf("run again with -seed %d", seed)
	return seed
}

// chosenStanzas gives the stanzas that -stanza selects.
func chosenStanzas() []stanza {
	return slices.DeleteFunc(stanzas(), func(s stanza) bool { return !strings.Contains(s.name, *stanzaFlag) })
}

func testWorld(t *testing.T, list []stanza) *world {
	t.Helper()
	w, err := newWorld(list)
	if w == nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// tally counts what was compared.
type tally struct {
	queries  int
	allowed  map[string]int
	unknown  map[string]int
	reported int
}

// TestSameAnswers compares answers about random clusters.
func TestSameAnswers(t *testing.T) {
	seed := chosenSeed(t)
	w := testWorld(t, chosenStanzas())
	count := newTally()
	budget := *budgetFlag
	if testing.Short() {
		budget = min(budget, 5*time.Second)
	}
	end := time.Now().Add(budget)
	made := 0
	for ; *clustersFlag == 0 && time.Now().Before(end) || made < *clustersFlag; made++ {
		count.compareCluster(t, w, seed+uint64(made))
		if t.Failed() && count.reported >= *reportsFlag {
			break
		}
	}
	t.Logf("%d clusters", made)
	count.log(t)
}

func newTally() *tally { return &tally{allowed: make(map[string]int), unknown: make(map[string]int)} }

// log says what was compared and what came of it.
func (c *tally) log(t *testing.T) {
	t.Logf("%d queries compared", c.queries)
	for _, code := range slices.Sorted(maps.Keys(c.allowed)) {
		t.Logf("%7d differences %s", c.allowed[code], code)
	}
	for _, signature := range slices.Sorted(maps.Keys(c.unknown)) {
		t.Logf("%7d unexplained: %s", c.unknown[signature], signature)
	}
}

func (c *tally) compareCluster(t *testing.T, w *world, seed uint64) {
	g := newGenerator(seed)
	objects := g.cluster(4 + g.IntN(20))
	list := derive(objects)
	for _, p := range w.pairs {
		if err := w.show(objects); err != nil { // a report may have left other objects
			t.Fatal(err)
		}
		for range *queriesFlag {
			c.compareOne(t, w, p, g.query(list), seed)
		}
	}
}

func (c *tally) compareOne(t *testing.T, w *world, p *pair, q query, seed uint64) {
	c.queries++
	d, err := w.compare(p, q)
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
		return
	}
	if d == nil {
		return
	}
	if e := allowed(d); e != nil {
		c.allowed[e.code]++
		return
	}
	signature := d.signature()
	if c.unknown[signature]++; c.unknown[signature] > 1 || c.reported >= *reportsFlag {
		return
	}
	c.reported++
	objects := w.now
	if w.api == nil { // a real one, whose objects stay
		t.Errorf("seed %d: %s", seed, d.report())
		return
	}
	d, err = w.shrink(d)
	t.Errorf("seed %d: %s", seed, d.report())
	if err == nil {
		err = w.show(objects)
	}
	if err != nil {
		t.Fatal(err)
	}
}
