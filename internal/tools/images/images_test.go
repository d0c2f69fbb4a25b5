package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// testOrder is an image of a recipe with a stand-in for its first program.
func testOrder(r recipe) (order, []file) {
	o := order{recipe: r, version: "v1", architecture: "arm64", created: time.Unix(1_700_000_000, 0).UTC()}
	return o, []file{{path: r.programs[0], mode: 0o755, content: []byte("\x7fELF"), capabilities: r.capabilities}}
}

func TestArchiveIsTheSameEachTimeAndReadByBothFormats(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			var archives [][]byte
			for _, name := range []string{"first.tar", "second.tar"} {
				o, programs := testOrder(r)
				image, err := o.assemble(programs)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), name)
				if err := writeArchive(image, o.reference(o.version), o.created, path); err != nil {
					t.Fatal(err)
				}
				read, err := tarball.ImageFromPath(path, nil)
				if err != nil {
					t.Fatalf("as docker reads it: %v", err)
				}
				if err := validate.Image(read); err != nil {
					t.Error(err)
				}
				config, err := read.ConfigFile()
				if err != nil {
					t.Fatal(err)
				}
				if got := config.Config.Entrypoint; !slices.Equal(got, []string{"/" + r.name}) {
					t.Errorf("entry point %q", got)
				}
				if config.Architecture != "arm64" || config.OS != "linux" || config.Config.User != r.user {
					t.Errorf("image of %s/%s for user %s", config.OS, config.Architecture, config.Config.User)
				}
				archive, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				archives = append(archives, archive)
			}
			if !bytes.Equal(archives[0], archives[1]) {
				t.Error("two builds differ")
			}
		})
	}
}

func TestFileCapabilityIsTheKernelsStructure(t *testing.T) {
	// What `setcap cap_net_bind_service=+ep` writes.
	want := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if got := capabilityAttribute([]uint{netBindService}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLayerHasItsDirectoriesOnceAndTheCapabilityOfItsProgram(t *testing.T) {
	files := append(base(), file{path: "program", mode: 0o755, content: []byte("x"), capabilities: []uint{netBindService}})
	layer, err := newLayer(files, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var names []string
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		_, capable := header.PAXRecords["SCHILY.xattr.security.capability"]
		if capable != (header.Name == "program") {
			t.Errorf("%s: capability %v", header.Name, capable)
		}
		if header.Uid != 0 || header.ModTime.Unix() != 1 {
			t.Errorf("%s: of user %d at %s", header.Name, header.Uid, header.ModTime)
		}
	}
	want := []string{"etc/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "program"}
	if !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
}

func TestCertificatesAreReadable(t *testing.T) {
	if !x509.NewCertPool().AppendCertsFromPEM(certificates()) {
		t.Error("no certificate can be read")
	}
}

// Elsewhere, so that a path of the source in a program would show.
func TestTwoBuildsGiveOneDigest(t *testing.T) {
	if testing.Short() {
		t.Skip("links every program twice for each architecture: left out by -short")
	}
	sources := []string{"../../..", copySource(t.Context(), t)}
	for _, architecture := range []string{"amd64", "arm64"} {
		for _, r := range recipes {
			t.Run(r.name+" for "+architecture, func(t *testing.T) {
				o := order{recipe: r, version: "v1", architecture: architecture, created: time.Unix(1_700_000_000, 0).UTC()}
				var digests []string
				for _, source := range sources {
					o.source = source
					digest, err := build(t.Context(), o, filepath.Join(t.TempDir(), "image.tar"))
					if err != nil {
						t.Fatal(err)
					}
					digests = append(digests, digest.String())
				}
				if digests[0] != digests[1] {
					t.Errorf("digests %q", digests)
				}
			})
		}
	}
}
