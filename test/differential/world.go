package differential

import (
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// pair is a stanza served by both plugins.
type pair struct {
	stanza stanza
	// compat is true if ours is asked to answer as the stock plugin does.
	compat      bool
	stock, ours *server
}

func (p *pair) String() string {
	if p.compat {
		return p.stanza.name + ", compat stock"
	}
	return p.stanza.name
}

// world is an API server, and servers of all stanzas that watch it.
type world struct {
	// api is nil if the API server is a real one.
	api     *api
	servers []*server
	pairs   []*pair
	step    int
	// now is what the API server has, without the barrier.
	now cluster
}

// newWorld starts everything; the API has no objects but the barrier. An error does not
// keep the other stanzas from being compared.
func newWorld(list []stanza) (*world, error) {
	w := &world{api: startAPI(), now: make(cluster)}
	if err := w.publish(w.now); err != nil {
		return nil, err
	}
	return w, w.addStanzas(list, "endpoint "+w.api.URL)
}

// addStanzas starts servers whose API server the given property leads to.
func (w *world) addStanzas(list []stanza, property string) error {
	var failures []error
	for _, s := range list {
		s.api = []string{property}
		failures = append(failures, w.addStanza(s))
	}
	return errors.Join(failures...)
}

// addStanza starts the stock plugin once and ours twice, with and without compat stock.
func (w *world) addStanza(s stanza) error {
	stock, err := startServer(stockName, s)
	if err != nil {
		return err
	}
	w.servers = append(w.servers, stock)
	for _, compat := range []bool{false, true} {
		var properties []string
		if compat {
			properties = []string{"compat stock"}
		}
		ours, err := startServer(mooringName, s, properties...)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, ours)
		w.pairs = append(w.pairs, &pair{stanza: s, compat: compat, stock: stock, ours: ours})
	}
	return nil
}

func (w *world) close() error {
	var failures []error
	for _, s := range w.servers {
		failures = append(failures, s.stop())
	}
	if w.api != nil {
		w.api.stop()
	}
	return errors.Join(failures...)
}

// publish gives the API server other objects and does not wait.
func (w *world) publish(c cluster) error {
	w.step++
	w.now = c
	last := make(cluster)
	last.add(barrier(w.step)...)
	return w.api.replace(c, last)
}

// show publishes objects and waits until the servers have them, all if none is named.
func (w *world) show(c cluster, servers ...*server) error {
	if err := w.publish(c); err != nil {
		return err
	}
	if len(servers) == 0 {
		servers = w.servers
	}
	for _, s := range servers {
		if err := s.await(w.step); err != nil {
			return err
		}
	}
	return nil
}

// difference is one query to which the two plugins answered differently.
type difference struct {
	pair        *pair
	query       query
	stock, ours answer
	// whole is what the stock plugin answers if there is room for all.
	whole answer
	// parts are where the answers differ.
	parts   []string
	objects cluster
}

// compare asks both plugins of a pair; nil if they agree.
func (w *world) compare(p *pair, q query) (*difference, error) {
	ours, err := p.ours.ask(q)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", p, q, err)
	}
	stock, err := p.askStock(q)
	if err != nil {
		return nil, err
	}
	d := &difference{pair: p, query: q, stock: canonical(stock), ours: canonical(ours), objects: w.now}
	if d.whole, err = p.whole(q, stock, ours); err != nil {
		return nil, err
	}
	if d.parts = differ(d.stock, d.ours, d.whole); len(d.parts) == 0 {
		return nil, nil
	}
	return d, nil
}

// whole gives the stock plugin's answer to a client that takes any size, if a client
// that takes less may not have got all.
func (p *pair) whole(q query, stock, ours *dns.Msg) (answer, error) {
	if !stock.Truncated && !ours.Truncated && len(stock.Extra) == len(ours.Extra) {
		return canonical(stock), nil
	}
	q.tcp = true
	m, err := p.askStock(q)
	if err != nil {
		return answer{}, err
	}
	return canonical(m), nil
}

// askStock asks the stock plugin. If it sends nothing, the reply is noReply.
func (p *pair) askStock(q query) (*dns.Msg, error) {
	m, err := p.stock.ask(q)
	if errors.Is(err, errNoReply) {
		return noReply, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: stock plugin: %w", p, q, err)
	}
	return m, nil
}

// noReply stands for a reply that never comes; its response code is none of DNS.
var noReply = &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: -1}}
