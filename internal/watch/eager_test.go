package watch

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

func serviceSink(store *state.Store, eager bool) *sink {
	return &sink{
		kind: serviceKind(&Selection{}), selection: &Selection{}, store: store, converter: converter{names: &intern.Names{}},
		status: newStatusBoard(slog.Default(), "services"), logger: slog.Default(), listed: (*state.Txn).SetSynced, eager: eager,
	}
}

// streamed has a sink take a Service of a list that is streamed, as a reflector does.
func streamed(t *testing.T, s *sink, name, address string) any {
	t.Helper()
	object, err := s.Transformer()(apiService("shop", name, address))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestAnEagerSinkCommitsBeforeTheListIsComplete(t *testing.T) {
	web := model.ServiceKey{Namespace: "shop", Name: "web"}
	for _, test := range []struct {
		situation string
		eager     bool
		before    func(*state.Store)
		early     bool
	}{
		{situation: "first list", eager: true, early: true},
		{situation: "first list of a source that is not eager"},
		{
			situation: "list of a synced source", eager: true,
			before: func(s *state.Store) { s.Update(time.Now(), func(tx *state.Txn) { tx.SetSynced() }) },
		},
		{
			situation: "first list beside a restored snapshot", eager: true,
			before: func(s *state.Store) { s.Restore(time.Now(), time.Now(), func(*state.Txn) {}) },
		},
	} {
		t.Run(test.situation, func(t *testing.T) {
			store := state.NewStore()
			if test.before != nil {
				test.before(store)
			}
			s := serviceSink(store, test.eager)
			stream := func(name, address string) any { return streamed(t, s, name, address) }
			list := []any{stream("web", "10.96.0.10")}
			early := store.Load().Service(web)
			if test.early != (early != nil) {
				t.Errorf("after the first object: %v", early)
			}
			// What is not committed at once is not lost.
			list = append(list, stream("api", "10.96.0.20"))
			if err := s.Replace(list, "1"); err != nil {
				t.Fatal(err)
			}
			now := store.Load()
			if now.Service(web) == nil || now.Service(model.ServiceKey{Namespace: "shop", Name: "api"}) == nil || !now.Synced {
				t.Errorf("after the list: synced %v", now.Synced)
			}
			if test.early && now.Service(web) != early {
				t.Error("the list has replaced what was committed before by its equal")
			}
		})
	}
}

// TestAnEagerSinkForgetsWhatTheListHasNot has a stream end half-way, the next one lack what it had, and
// another one come before all kinds have been read.
func TestAnEagerSinkForgetsWhatTheListHasNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.NewStore()
		s := serviceSink(store, true)
		s.listed = func(*state.Txn) {}
		streamed(t, s, "gone", "10.96.0.10")
		streamed(t, s, "waiting", "10.96.0.11")
		if err := s.Replace([]any{streamed(t, s, "web", "10.96.0.20")}, "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(earlyPause)
		streamed(t, s, "web", "10.96.0.20")
		if got, want := printed(store.Load()), "service shop/web ClusterIP ips=[10.96.0.20] ports=http:TCP/80:0"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
