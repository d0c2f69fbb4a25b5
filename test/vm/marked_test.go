package vm

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// endless fails the test when it is read after the mark.
type endless struct{ t *testing.T }

func (e endless) Read([]byte) (int, error) {
	e.t.Error("read beyond the mark")
	return 0, io.ErrUnexpectedEOF
}

func TestMarked(t *testing.T) {
	large := strings.Repeat("0123456789", 20000)
	for _, test := range []struct{ name, stream, want string }{
		{"nothing before the mark", "MARK", ""},
		{"output before the mark", "some outputMARK", "some output"},
		{"beginnings of the mark inside", "MA MAR MARMARK", "MA MAR MAR"},
		{"more than one read", large + "MARK", large},
	} {
		for reader, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			t.Run(test.name+"/"+reader, func(t *testing.T) {
				stream := io.MultiReader(wrap(strings.NewReader(test.stream)), endless{t})
				got, err := io.ReadAll(newMarked(stream, "MARK"))
				if err != nil || string(got) != test.want {
					t.Errorf("got %d bytes, %v, want %d bytes", len(got), err, len(test.want))
				}
			})
		}
	}
}

func TestMarkedWithoutMark(t *testing.T) {
	got, err := io.ReadAll(newMarked(strings.NewReader("cut off MA"), "MARK"))
	if err != nil || string(got) != "cut off MA" {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = io.ReadAll(newMarked(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader([]byte("xy")))), "MARK"))
	if err == nil || string(got) != "x" {
		t.Errorf("broken stream: got %q, %v", got, err)
	}
}
