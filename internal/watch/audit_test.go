package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	protobufserializer "k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// answer is what an auditRig's server lists: names in the namespace shop and their
// versions, as of a version; with err only those.
type answer struct {
	asOf    string
	objects map[string]string
	err     error
}

// An auditRig is an auditor of Services whose server, watch and clock are the test's.
type auditRig struct {
	*auditor
	log       *logBook
	answers   []answer
	asked     int
	relisted  int
	services  *audited
	askedWhen []time.Time
}

func newAuditRig(seen map[string]string, answers ...answer) *auditRig {
	r := &auditRig{log: &logBook{}, answers: answers}
	logger := slog.New(slog.NewTextHandler(r.log, nil))
	r.services = &audited{
		resource: "services", store: state.NewStore(), kind: serviceKind(&Selection{}), ledger: &ledger{},
		status: newStatusBoard(logger, "services"), list: r.list, relist: func() { r.relisted++ },
		wants:   func(namespace string) bool { return namespace == "shop" },
		explain: func(err error) error { return err },
	}
	r.auditor = &auditor{kinds: []*audited{r.services}, interval: defaultAuditInterval, grace: auditGrace, logger: logger}
	if seen == nil {
		return r
	}
	r.services.ledger.replace(map[uint64]uint64{})
	for name, version := range seen {
		r.saw(name, version)
		r.services.store.Update(time.Now(), func(tx *state.Txn) {
			tx.PutService(&model.Service{Key: model.ServiceKey{Namespace: "shop", Name: name}})
		})
	}
	return r
}

func (r *auditRig) saw(name, version string) {
	r.services.ledger.put(objectKey{"shop", name}, parseVersion(version))
}

func (r *auditRig) list(_ context.Context, visit func(uint64, listed)) (uint64, error) {
	now := r.answers[min(r.asked, len(r.answers)-1)]
	r.asked++
	r.askedWhen = append(r.askedWhen, time.Now())
	asOf := parseVersion(now.asOf)
	visit(asOf, listed{objectKey{"elsewhere", "a"}, 5})
	for name, version := range now.objects {
		visit(asOf, listed{objectKey{"shop", name}, parseVersion(version)})
	}
	return asOf, now.err
}

type versions = map[string]string

func TestAuditRound(t *testing.T) {
	at := func(asOf string, objects versions) answer { return answer{asOf: asOf, objects: objects} }
	cut := errors.New("cut off")
	for _, test := range []struct {
		name    string
		seen    versions // before; nil if nothing was listed yet
		answers []answer
		during  func(*auditRig) // what the watch brings while the grace lasts
		lists   int
		found   string // the end of the log line; empty if nothing is to be repaired
	}{
		{name: "all the same", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "3"})}, lists: 1},
		{name: "nothing listed yet", answers: []answer{at("9", versions{"a": "3"})}, lists: 0},

		{name: "addition missed", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "3", "b": "7"})}, lists: 2, found: "objects=1 first=[shop/b]"},
		{name: "change missed", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "7"})}, lists: 2, found: "objects=1 first=[shop/a]"},
		{name: "deletion missed", seen: versions{"a": "3", "b": "4"}, answers: []answer{at("9", versions{"a": "3"})}, lists: 2, found: "objects=1 first=[shop/b]"},
		{name: "deleted and created again, missed", seen: versions{"a": "3"}, answers: []answer{at("9", versions{}), at("12", versions{"a": "11"})}, lists: 2, found: "objects=1 first=[shop/a]"},
		{
			name: "one missed, one in flight", seen: versions{"a": "3", "b": "4"}, answers: []answer{at("9", versions{"a": "7", "b": "8"})},
			during: func(r *auditRig) { r.saw("b", "8") }, lists: 2, found: "objects=1 first=[shop/a]",
		},
		{name: "server restored from a backup", seen: versions{"a": "30"}, answers: []answer{at("9", versions{"a": "3"})}, lists: 2, found: "objects=1 first=[shop/a]"},
		{name: "versions that are no numbers", seen: versions{"a": "x"}, answers: []answer{at("q", versions{"a": "y"})}, lists: 2, found: "objects=1 first=[shop/a]"},

		{
			name: "addition in flight", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "3", "b": "7"})},
			during: func(r *auditRig) { r.saw("b", "7") }, lists: 2,
		},
		{
			name: "change in flight", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "7"})},
			during: func(r *auditRig) { r.saw("a", "7") }, lists: 2,
		},
		{
			name: "deletion in flight", seen: versions{"a": "3"}, answers: []answer{at("9", versions{})},
			during: func(r *auditRig) { r.services.ledger.remove(objectKey{"shop", "a"}) }, lists: 2,
		},
		{name: "addition and deletion in flight", seen: versions{}, answers: []answer{at("9", versions{"b": "7"}), at("12", versions{})}, lists: 2},
		{
			name: "two changes in flight, one after the other", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "7"}), at("12", versions{"a": "11"})},
			during: func(r *auditRig) { r.saw("a", "7") }, lists: 2,
		},
		{
			name: "first change at the second list", seen: versions{"a": "3", "b": "4"}, answers: []answer{at("9", versions{"a": "7", "b": "4"}), at("12", versions{"a": "7", "b": "11"})},
			during: func(r *auditRig) { r.saw("a", "7") }, lists: 2,
		},
		{
			name: "listed anew meanwhile", seen: versions{"a": "3"}, answers: []answer{at("9", versions{"a": "7"})},
			during: func(r *auditRig) {
				r.services.ledger.replace(map[uint64]uint64{fingerprint(objectKey{"shop", "a"}): 7})
			}, lists: 2,
		},

		{name: "list fails", seen: versions{"a": "3"}, answers: []answer{{err: cut}}, lists: 1},
		{name: "list ends early", seen: versions{"a": "3", "b": "4"}, answers: []answer{{asOf: "9", objects: versions{"a": "7"}, err: cut}}, lists: 1},
		{name: "second list ends early", seen: versions{"a": "3", "b": "4"}, answers: []answer{at("9", versions{}), {asOf: "9", objects: versions{"a": "7"}, err: cut}}, lists: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newAuditRig(test.seen, test.answers...)
				before := r.services.store.Load()
				done := make(chan struct{})
				go func() { defer close(done); r.round(t.Context()) }()
				time.Sleep(auditGrace / 2)
				if test.during != nil {
					test.during(r)
				}
				<-done
				want := 0
				if test.found != "" {
					want = 1
				}
				if r.asked != test.lists || r.relisted != want || r.services.ledger.doubted() != (want == 1) {
					t.Errorf("listed %d times, want %d; relisted %d times, want %d; log:\n%s", r.asked, test.lists, r.relisted, want, r.log)
				}
				if n := r.log.count("the watch has missed changes"); n != want || r.log.count(test.found) < want {
					t.Errorf("log:\n%s", r.log)
				}
				if r.services.store.Load() != before {
					t.Error("an audit changed the store by itself")
				}
				failed := test.answers[len(test.answers)-1].err != nil
				if n := r.log.count("cut off"); (n == 1) != failed {
					t.Errorf("%d lines about the failure; log:\n%s", n, r.log)
				}
			})
		})
	}
}

// TestAuditKnowsWhatIsAhead changes an object between the list and the comparison: that
// needs no second list.
func TestAuditKnowsWhatIsAhead(t *testing.T) {
	r := newAuditRig(versions{"a": "3", "b": "4"})
	r.services.list = func(_ context.Context, visit func(uint64, listed)) (uint64, error) {
		r.asked++
		r.saw("a", "12")
		r.saw("new", "13")
		visit(9, listed{objectKey{"shop", "a"}, 3})
		visit(9, listed{objectKey{"shop", "b"}, 4})
		return 9, nil
	}
	r.round(t.Context())
	if r.asked != 1 || r.relisted != 0 {
		t.Errorf("listed %d times, relisted %d times", r.asked, r.relisted)
	}
}

func TestAuditLeavesTroubleToTheWatch(t *testing.T) {
	r := newAuditRig(versions{"a": "3"}, answer{})
	r.services.status.fail("services", time.Now(), errors.New("away"))
	r.round(t.Context())
	if r.asked != 0 {
		t.Error("listed a kind that cannot be read")
	}
	r.services.status.recovered("services", time.Now())
	r.services.list = func(context.Context, func(uint64, listed)) (uint64, error) {
		r.services.status.fail("services", time.Now(), errors.New("away"))
		return 0, errors.New("refused")
	}
	r.round(t.Context())
	if r.log.count("refused") != 0 {
		t.Errorf("told twice about one trouble:\n%s", r.log)
	}
}

// TestAuditWaitsForTheRepair audits again before the list that is to repair has been read.
func TestAuditWaitsForTheRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditRig(versions{"a": "3"}, answer{asOf: "9", objects: versions{"a": "7"}})
		r.round(t.Context())
		r.round(t.Context())
		if r.relisted != 1 {
			t.Errorf("relisted %d times", r.relisted)
		}
		if settled := r.services.ledger.replace(map[uint64]uint64{fingerprint(objectKey{"shop", "a"}): 6}); settled != 1 {
			t.Errorf("the list settled %d doubts", settled)
		}
		r.round(t.Context())
		if r.relisted != 2 {
			t.Errorf("relisted %d times after a list that did not repair", r.relisted)
		}
	})
}

func TestAuditNamesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := versions{}
		for i := range 20 {
			many[fmt.Sprint("s", i)] = "7"
		}
		r := newAuditRig(versions{}, answer{asOf: "9", objects: many})
		c := r.compare(t.Context(), r.services, nil)
		c = r.compare(t.Context(), r.services, c.differs)
		if len(c.differs) != 20 || len(c.names) != auditNames {
			t.Errorf("%d differ, %d names", len(c.differs), len(c.names))
		}
	})
}

func TestAuditSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditRig(versions{"a": "3"}, answer{asOf: "9", objects: versions{"a": "3"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		began := time.Now()
		go func() { defer close(done); r.run(ctx) }()
		time.Sleep(24 * time.Hour)
		cancel()
		<-done
		if r.asked < 110 || r.asked > 190 {
			t.Errorf("%d audits in a day", r.asked)
		}
		different := map[time.Duration]bool{}
		for _, when := range r.askedWhen {
			gap := when.Sub(began)
			if gap < 5*time.Minute || gap >= 15*time.Minute {
				t.Errorf("an audit after %v", gap)
			}
			began, different[gap] = when, true
		}
		if len(different) < len(r.askedWhen)/2 {
			t.Error("no jitter")
		}
		if got := r.services.status.Status()[0].Audited; got != began {
			t.Errorf("audited %v, want %v", got, began)
		}
	})
}

func TestAuditInterval(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: 10 * time.Minute, time.Hour: time.Hour, -1: 0} {
		source, err := NewKubernetes(KubernetesConfig{Master: "http://127.0.0.1:1", AuditInterval: given})
		if err != nil {
			t.Fatal(err)
		}
		if got := source.(*Kubernetes).auditInterval; got != want {
			t.Errorf("%v: %v, want %v", given, got, want)
		}
	}
}

// TestAuditRepairsLossyWatch has watches miss what happens, with streamed lists, with
// plain ones, and with a server that cannot send metadata alone.
func TestAuditRepairsLossyWatch(t *testing.T) {
	for _, server := range []struct{ noStream, oldStyle bool }{{}, {noStream: true}, {oldStyle: true}} {
		t.Run(fmt.Sprintf("%+v", server), func(t *testing.T) {
			api := newAPIServer(t)
			api.noStream, api.oldStyle = server.noStream, server.oldStyle
			api.put("services", apiService("shop", "web", "10.96.0.10"))
			api.put("services", apiService("shop", "gone", "10.96.0.11"))
			api.put("services", apiService("hidden", "web", "10.96.0.99"))
			r := runKubernetes(t, api, KubernetesConfig{
				AuditInterval: 50 * time.Millisecond, Selection: Selection{NoEndpoints: true, Namespaces: []string{"shop", "other"}},
			})
			gone := "service shop/gone ClusterIP ips=[10.96.0.11] ports=http:TCP/80:0\n"
			r.until(gone + webLine)
			until(t, "an audit", func() bool { return !r.source.Status()[0].Audited.IsZero() })
			if r.source.Status()[0].Repaired != 0 {
				t.Errorf("repaired what was right; log:\n%s", r.log)
			}

			repaired := uint64(0)
			check := func(situation, name, want string) {
				t.Helper()
				r.until(want)
				until(t, situation, func() bool { return r.source.Status()[0].Repaired > repaired })
				repaired = r.source.Status()[0].Repaired
				if r.log.count("the watch has missed changes, listing anew") == 0 || r.log.count("objects=1 first=["+name+"]") == 0 {
					t.Errorf("%s: log:\n%s", situation, r.log)
				}
			}
			api.lose(func() { api.remove("services", "shop/gone", false) })
			check("deletion", "shop/gone", webLine)
			api.lose(func() { api.put("services", apiService("shop", "new", "10.96.0.12")) })
			check("addition", "shop/new", "service shop/new ClusterIP ips=[10.96.0.12] ports=http:TCP/80:0\n"+webLine)
			api.lose(func() { api.put("services", apiService("shop", "new", "10.96.0.13")) })
			check("change", "shop/new", "service shop/new ClusterIP ips=[10.96.0.13] ports=http:TCP/80:0\n"+webLine)

			// What is listed anew is the most recent: a list that is no older than the last
			// event may lack what the watch lacked.
			if newest := api.asked("sendInitialEvents=true") - api.asked("sendInitialEvents=true", "resourceVersion="); !server.noStream && newest < 4 {
				t.Errorf("%d lists of the most recent, want the first and three repairs", newest)
			}

			// The watch goes on, and what has been repaired stays so.
			api.put("services", apiService("shop", "gone", "10.96.0.11"))
			r.until(gone + "service shop/new ClusterIP ips=[10.96.0.13] ports=http:TCP/80:0\n" + webLine)
			if r.log.count("level=ERROR") != 0 {
				t.Errorf("log:\n%s", r.log)
			}
		})
	}
}

func TestSinkKeepsTheLedger(t *testing.T) {
	selection := &Selection{Namespaces: []string{"shop"}, NoHeadless: true}
	s := &sink{
		kind: serviceKind(selection), selection: selection, store: state.NewStore(), converter: converter{names: &intern.Names{}},
		status: newStatusBoard(slog.Default(), "services"), logger: slog.Default(), listed: func(*state.Txn) {},
	}
	object := func(namespace, name, ip, version string) *corev1.Service {
		service := apiService(namespace, name, ip)
		service.ResourceVersion = version
		return service
	}
	check := func(situation string, want map[string]uint64) {
		t.Helper()
		got := map[string]uint64{}
		for _, key := range []objectKey{{"shop", "a"}, {"shop", "b"}, {"shop", "headless"}, {"hidden", "a"}} {
			if version := s.ledger.version(fingerprint(key)); version != 0 {
				got[key.String()] = version
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", situation, diff)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	streamed, err := s.Transformer()(object("shop", "a", "10.96.0.1", "3"))
	do(err)
	do(s.Replace([]any{streamed, object("shop", "b", "10.96.0.2", "4"), object("hidden", "a", "10.96.0.3", "5")}, "6"))
	check("listed", map[string]uint64{"shop/a": 3, "shop/b": 4})
	do(s.Update(object("shop", "a", "10.96.0.1", "7")))
	do(s.Add(object("shop", "headless", "None", "8"))) // nothing is kept of it, but it was heard of
	do(s.Add(object("hidden", "a", "10.96.0.3", "9")))
	check("changed", map[string]uint64{"shop/a": 7, "shop/b": 4, "shop/headless": 8})
	do(s.Delete(object("shop", "b", "10.96.0.2", "10")))
	check("deleted", map[string]uint64{"shop/a": 7, "shop/headless": 8})
	do(s.Replace([]any{object("shop", "b", "10.96.0.2", "11")}, "12"))
	check("listed anew", map[string]uint64{"shop/b": 11})
	if newest, _ := s.ledger.begin(); newest != 11 {
		t.Errorf("newest %d", newest)
	}
}

// TestAuditListEndsEarly refuses the second page of a long list, of which the watch has
// missed a part.
func TestAuditListEndsEarly(t *testing.T) {
	api := newAPIServer(t)
	for i := range metadataPage + 2 {
		api.put("services", apiService("shop", fmt.Sprintf("s%04d", i), "10.96.0.10"))
	}
	api.brokenPage = 2
	r := runKubernetes(t, api, KubernetesConfig{AuditInterval: 20 * time.Millisecond, Selection: Selection{NoEndpoints: true}})
	until(t, "sync", func() bool { return r.store.Load().Synced })
	before := r.store.Load()
	api.lose(func() { api.remove("services", "shop/s0000", false) })
	until(t, "two audits", func() bool { return r.log.count("continue parameter is too old") >= 2 })
	if now := r.source.Status()[0]; r.store.Load() != before || now.Repaired != 0 || !now.Audited.IsZero() || now.Err != nil {
		t.Errorf("a list that ended early had consequences: %+v", now)
	}
	api.mu.Lock()
	api.brokenPage = 0
	api.mu.Unlock()
	until(t, "the repair", func() bool {
		return r.source.Status()[0].Repaired > 0 && r.store.Load().Service(model.ServiceKey{Namespace: "shop", Name: "s0000"}) == nil
	})
	if n := r.log.count("objects=1 first=[shop/s0000]"); n == 0 {
		t.Errorf("log:\n%s", r.log)
	}
}

// TestMetadataAsProtobuf reads what an API server sends to those who prefer protobuf.
func TestMetadataAsProtobuf(t *testing.T) {
	scheme, err := newScheme(watchedGroups)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/vnd.kubernetes.protobuf,application/json"
		if diff := cmp.Diff(want, r.Header.Get("Accept")); diff != "" {
			t.Errorf("Accept (-want +got):\n%s", diff)
		}
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
		_ = protobufserializer.NewSerializer(scheme, scheme).Encode(&metav1.PartialObjectMetadataList{
			TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"},
			ListMeta: metav1.ListMeta{ResourceVersion: "9"},
			Items:    []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", ResourceVersion: "7"}}},
		}, w)
	}))
	defer server.Close()
	clients, err := newClients(&KubernetesConfig{Master: server.URL}, watchedGroups)
	if err != nil {
		t.Fatal(err)
	}
	selection := &Selection{}
	source := &listWatch{clients: clients, sink: &sink{kind: serviceKind(selection), selection: selection}}
	var got []listed
	asOf, err := source.eachListed(t.Context(), func(_ uint64, object listed) { got = append(got, object) })
	if err != nil || asOf != 9 || len(got) != 1 || got[0] != (listed{objectKey{"shop", "web"}, 7}) {
		t.Errorf("%v as of %d, %v", got, asOf, err)
	}
}
