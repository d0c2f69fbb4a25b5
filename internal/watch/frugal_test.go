package watch

import (
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// advance lets time pass and waits for what it sets off.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// gcPercent gives the collector's target without changing it for longer than that takes.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

func TestFrugalWhileListsAreRead(t *testing.T) {
	usual := gcPercent()
	synctest.Test(t, func(t *testing.T) {
		var f frugality
		check := func(situation string, want int) {
			t.Helper()
			if got := gcPercent(); got != want {
				t.Errorf("%s: GOGC %d, want %d", situation, got, want)
			}
		}
		f.begin(false)
		check("one list", frugalPercent)
		f.begin(false)
		f.end()
		check("one of two lists read", frugalPercent)
		f.end()
		check("just read", frugalPercent)
		f.begin(false)
		advance(settleTime)
		check("another one began", frugalPercent)
		f.end()
		advance(settleTime)
		check("all read", usual)
	})
}

func TestFrugalNeverRaisesTheTarget(t *testing.T) {
	usual := debug.SetGCPercent(10)
	defer debug.SetGCPercent(usual)
	synctest.Test(t, func(t *testing.T) {
		var f frugality
		f.begin(false)
		if got := gcPercent(); got != 10 {
			t.Errorf("GOGC %d, want 10", got)
		}
		f.end()
		advance(settleTime)
		if got := gcPercent(); got != 10 {
			t.Errorf("GOGC %d after the list, want 10", got)
		}
	})
}

func TestFrugalRaisesTheTargetWhileEverythingIsReadFirst(t *testing.T) {
	for _, test := range []struct {
		situation, environment string
		want                   int
	}{
		{"by itself", "", firstPercent},
		{"the environment has another one", "10", 10},
	} {
		t.Run(test.situation, func(t *testing.T) {
			t.Setenv("GOGC", test.environment)
			usual := debug.SetGCPercent(10)
			defer debug.SetGCPercent(usual)
			synctest.Test(t, func(t *testing.T) {
				var f frugality
				f.begin(true)
				if got := gcPercent(); got != test.want {
					t.Errorf("GOGC %d, want %d", got, test.want)
				}
				f.end()
				advance(settleTime)
				if got := gcPercent(); got != 10 {
					t.Errorf("GOGC %d after the list, want 10", got)
				}
			})
		})
	}
}
