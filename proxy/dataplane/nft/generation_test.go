package nft

import (
	"errors"
	"testing"
)

func TestWhatATransactionDisturbsIsReadAgain(t *testing.T) {
	refused := errors.New("refused")
	for _, test := range []struct {
		name        string
		generations []uint32
		err         error
		reads       int
	}{
		{"nothing comes between", []uint32{7, 7}, nil, 1},
		{"one transaction", []uint32{7, 8, 8}, nil, 2},
		{"others all the time", []uint32{7, 8, 9, 10}, nil, readTries},
		{"it cannot be read", []uint32{7}, refused, 1},
	} {
		reads, asked := 0, 0
		got, err := undisturbed(func() (uint32, error) {
			asked++
			return test.generations[asked-1], nil
		}, func() (int, error) {
			reads++
			return reads, test.err
		})
		if !errors.Is(err, test.err) || reads != test.reads || asked != len(test.generations) || got != reads {
			t.Errorf("%s: %d, error %v, after %d reads, want %d", test.name, got, err, reads, test.reads)
		}
	}
}
