package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProgramMappings(t *testing.T) {
	const maps = `00400000-02a00000 r-xp 00000000 fe:00 1234 /bin/mooring-dns
02a00000-04a00000 r--p 02600000 fe:00 1234 /bin/mooring-dns
04a00000-04b00000 rw-p 04600000 fe:00 1234 /bin/mooring-dns
04b00000-04c00000 rw-p 00000000 00:00 0
7f0000000000-7f0000100000 r-xp 00000000 fe:00 99 /lib/libc.so.6
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
`
	want := []mapping{{0x400000, 0x2a00000}, {0x2a00000, 0x4a00000}}
	if diff := cmp.Diff(want, programMappings(maps, "/bin/mooring-dns"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReleaseProgram runs on after its own pages are gone.
func TestReleaseProgram(t *testing.T) {
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	found := programMappings(string(maps), file)
	if len(found) == 0 {
		t.Fatalf("nothing is mapped of %s:\n%s", file, maps)
	}
	for _, m := range found {
		if err := m.release(); err != nil {
			t.Error(err)
		}
	}
}
