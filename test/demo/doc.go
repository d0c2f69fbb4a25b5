// Package demo brings the story to a kernel with IPVS: it builds the programs, starts a
// real control plane on this host when the objects are to come from one, and plays the
// story in the kernel machine of test/vm. The command test/cmd/demo and the end-to-end
// tests are both this.
package demo
