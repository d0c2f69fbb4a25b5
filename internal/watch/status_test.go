package watch

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStatusLogsAnErrorOncePerChange(t *testing.T) {
	log := &logBook{}
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	b := newStatusBoard(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: drop})), "a", "b")
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0) }
	refused, denied := errors.New("refused"), errors.New("denied")
	b.fail("a", at(1), refused)
	b.fail("a", at(2), errors.New("refused"))
	b.fail("b", at(3), refused)
	b.fail("b", at(4), denied)
	b.recovered("b", at(5))
	b.fail("b", at(6), refused)
	b.recovered("b", at(7))
	b.recovered("a", at(8))
	b.recovered("a", at(9))
	b.list("b", at(10))
	b.fail("b", at(11), errors.New("one\ntwo"))
	want := `level=ERROR msg=refused
level=ERROR msg=denied
level=INFO msg="reading again" after=denied
level=INFO msg="reading again" after=refused
level=ERROR msg=one
level=ERROR msg=two
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	got := b.Status()
	if got[0] != (KindStatus{Kind: "a", Contact: at(9)}) {
		t.Errorf("a: %+v", got[0])
	}
	if s := got[1]; s.Listed != at(10) || s.Contact != at(10) || s.ErrSince != at(11) || s.Err == nil {
		t.Errorf("b: %+v", s)
	}
}
