package differential

import "testing"

// TestDifferencesAreFound gives our plugin a property that the stock plugin has not got,
// and expects differences that nothing explains: the comparison must be able to fail.
func TestDifferencesAreFound(t *testing.T) {
	for _, property := range []string{
		"ttl 7", "negative_ttl 3", "pods insecure", "noendpoints", "ignore empty_service", "namespaces prod " + barrierNamespace + " " + barrierToggle,
		"labels app=x", "endpoint_pod_names", "fallthrough",
	} {
		t.Run(property, func(t *testing.T) {
			w := testWorld(t, nil)
			p := unlikePair(t, w, property)
			objects := newGenerator(1).cluster(30)
			if err := w.show(objects); err != nil {
				t.Fatal(err)
			}
			g, list := newGenerator(2), derive(objects)
			for range 5000 {
				d, err := w.compare(p, g.query(list))
				if err != nil {
					t.Fatal(err)
				}
				if d != nil && allowed(d) == nil {
					return
				}
			}
			t.Error("5000 queries, and no difference that is not allowed")
		})
	}
}

// unlikePair starts both plugins, ours alone with a further property.
func unlikePair(t *testing.T, w *world, property string) *pair {
	t.Helper()
	s := stanza{name: property, zones: kubeadmZones, api: []string{"endpoint " + w.api.URL}}
	stock, err := startServer(stockName, s)
	if err != nil {
		t.Fatal(err)
	}
	w.servers = append(w.servers, stock)
	ours, err := startServer(mooringName, s, property)
	if err != nil {
		t.Fatal(err)
	}
	w.servers = append(w.servers, ours)
	return &pair{stanza: s, stock: stock, ours: ours}
}
