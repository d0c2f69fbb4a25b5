// Package survive shows that what happens around Mooring costs nobody a connection: mooring-proxy,
// as a process of its own on the real kernel, is killed, replaced, left without its API server
// and lied to, while connections are held and new ones made all the time.
//
// MOORING_SOAK=1 has the tests run in their long forms. MOORING_SEED repeats a run of those that
// choose at random.
package survive
