package lab

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Logbook keeps the last lines of what each program of the lab printed. It is safe
// for concurrent use.
type Logbook struct {
	// mu guards pages and their contents.
	mu    sync.Mutex
	pages map[string]*page
}

// pageLimit is how much of a program's output is kept, in bytes.
const pageLimit = 8 << 10

// NewLogbook gives an empty one.
func NewLogbook() *Logbook { return &Logbook{pages: make(map[string]*page)} }

type page struct {
	book *Logbook
	text []byte
	cut  bool // lines were dropped at the front
}

// Page gives the place for the output of the program of that name; asking twice gives
// the same.
func (b *Logbook) Page(name string) io.Writer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pages[name] == nil {
		b.pages[name] = &page{book: b}
	}
	return b.pages[name]
}

// Write appends and drops whole lines from the front when the page is full.
func (p *page) Write(text []byte) (int, error) {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	p.text = append(p.text, text...)
	if over := len(p.text) - pageLimit; over > 0 {
		if end := bytes.IndexByte(p.text[over:], '\n'); end >= 0 {
			over += end + 1
		}
		p.text, p.cut = bytes.Clone(p.text[over:]), true
	}
	return len(text), nil
}

// WriteTo prints all pages that are not empty, in the order of their names.
func (b *Logbook) WriteTo(w io.Writer) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var total int64
	for _, name := range slices.Sorted(maps.Keys(b.pages)) {
		p, head := b.pages[name], ""
		if len(p.text) == 0 {
			continue
		}
		if p.cut {
			head = "(earlier lines left out)\n"
		}
		n, err := fmt.Fprintf(w, "--- %s ---\n%s%s", name, head, collapse(string(p.text)))
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// collapse shows a line that repeats once, with the number of times.
func collapse(text string) string {
	var out strings.Builder
	last, times := "", 0
	end := func() {
		if times > 0 {
			out.WriteString(last)
		}
		if times > 1 {
			fmt.Fprintf(&out, " (%d times)", times)
		}
		if times > 0 {
			out.WriteByte('\n')
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line != last {
			end()
			last, times = line, 0
		}
		times++
	}
	end()
	return out.String()
}
