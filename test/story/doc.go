// Package story plays what a newcomer wants to see of Services, one step after the
// other, in a lab: real programs ask by name and by address, and every answer is
// checked. It prints what was run and what came back, and ends each step in a mark.
package story
