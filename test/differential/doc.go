// Package differential compares the plugin mooring with the stock kubernetes plugin of
// CoreDNS, which it imports and of which it copies nothing.
//
// Both are started from a Corefile, the same but for one word, and watch the same API
// server. Objects and questions are random, from a logged seed. Every difference between
// two answers is a failure unless the list in exceptions.go names it together with the
// sentence of a standard that decides; a failure is reduced to the fewest objects that
// still show it.
//
// Two more tests ask while objects change, and ask servers on the network that watch a
// real API server. All of it runs with
//
//	go -C test/differential test ./...
//
// which takes a minute and a half; -short takes ten seconds and leaves the real API
// server out. After -args or without packages named, -seed N repeats a failure, -clusters
// N, -queries N and -budget D say how much to compare, -stanza TEXT which configurations,
// -reports N how many differences to reduce. TEST_SEED in the environment is -seed.
//
// The package is a module of its own, so that what the comparison needs stays out of
// the requirements of the main module.
package differential
