// Package differential compares the plugin mooring with the stock kubernetes plugin of
// CoreDNS, which it imports and of which it copies nothing.
//
// Both are started from a Corefile, the same but for one word, and watch the same API
// server. Objects and questions are random, from a logged seed. Every difference between
// two answers is a failure unless the list in exceptions.go names it together with the
// sentence of a standard that decides; a failure is reduced to the fewest objects that
// still show it.
//
// The package is a module of its own, so that what the comparison needs stays out of
// the requirements of the main module.
package differential
