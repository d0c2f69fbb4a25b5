package plan

import "fmt"

// A Refusal is the error of an operation that the data plane has understood and does not do,
// whatever else is in order: the object is one that it cannot have.
type Refusal struct {
	Op  Op
	Err error
	// NoScheduler says that it lacks the scheduler of a virtual server.
	NoScheduler bool
}

// Error gives the operation and the reason.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %v", r.Op, r.Err) }

// Unwrap gives the reason.
func (r *Refusal) Unwrap() error { return r.Err }

// Refusals finds all of them in an error.
func Refusals(err error) []*Refusal {
	if refusal, is := err.(*Refusal); is { //nolint:errorlint // each layer is looked at by itself
		return []*Refusal{refusal}
	}
	var found []*Refusal
	switch layer := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		return Refusals(layer.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range layer.Unwrap() {
			found = append(found, Refusals(one)...)
		}
	}
	return found
}
