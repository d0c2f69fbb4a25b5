// Command scale measures mooring-proxy beyond the size of one machine: a generator plays the API
// server, and nobody the kernel, so what remains is the state, the planner and the loop. It reports
// memory and the cost of a change beside more and more Services.
package main
