package main

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// base gives the files besides the programs: whom the system's users are, and whose certificates
// are trusted (those of Mozilla, as the Go project publishes them as a module).
func base() []file {
	return []file{
		{path: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnobody:x:65532:\n")},
		{path: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/none\nnobody:x:65532:65532:nobody:/:/none\n")},
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: certificates()},
	}
}

// certificates gives the roots without further constraints in PEM.
func certificates() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // a file of certificates cannot say what else a verifier has to check
		}
		// Writing to a buffer does not fail.
		_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return all.Bytes()
}
