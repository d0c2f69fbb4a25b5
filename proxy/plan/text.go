package plan

import (
	"fmt"
	"slices"
)

// MarshalText gives the kind's name, as String does, for what is kept in files.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a kind's name.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.Index(kindNames[:], string(text))
	if i <= 0 {
		return fmt.Errorf("%q is no kind of object", text)
	}
	*k = Kind(i)
	return nil
}
