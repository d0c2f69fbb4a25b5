package plan

import "iter"

// A Store holds a plan of very many objects in little memory. It is not safe for concurrent use.
type Store struct {
	objects table[packedValue]
	values  values
}

// NewStore gives a Store with a plan.
func NewStore(p Plan) *Store {
	s := &Store{objects: newTable[packedValue]()}
	for key, value := range p {
		s.objects.set(key, s.values.pack(value))
	}
	return s
}

// Len gives the number of objects.
func (s *Store) Len() int { return s.objects.len() }

// Get gives the value of an object, and whether it exists.
func (s *Store) Get(key Key) (Value, bool) {
	packed, exists := s.objects.get(key)
	return s.values.value(packed), exists
}

// Record notes one operation as done.
func (s *Store) Record(op Op) {
	if op.Verb == Delete {
		s.objects.delete(op.Key)
		return
	}
	s.objects.set(op.Key, s.values.pack(op.Value))
}

// All goes over the objects, in no particular order; they may be changed meanwhile.
func (s *Store) All() iter.Seq2[Key, Value] { return s.OfKind() }

// OfKind goes over those of some kinds, or of all if none is given, in the time of going over all.
func (s *Store) OfKind(kinds ...Kind) iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		for key, packed := range s.objects.each(kinds...) {
			if !yield(key, s.values.value(packed)) {
				return
			}
		}
	}
}

// Keys is a set of very many keys in little memory. It is not safe for concurrent use.
type Keys struct{ keys table[struct{}] }

// NewKeys gives an empty set.
func NewKeys() *Keys { return &Keys{newTable[struct{}]()} }

// Len gives the number of keys.
func (k *Keys) Len() int { return k.keys.len() }

// Has tells whether a key is in the set.
func (k *Keys) Has(key Key) bool {
	_, is := k.keys.get(key)
	return is
}

// Add puts a key into the set.
func (k *Keys) Add(key Key) { k.keys.set(key, struct{}{}) }

// Remove takes a key out of the set.
func (k *Keys) Remove(key Key) { k.keys.delete(key) }

// All gives the keys, in no particular order.
func (k *Keys) All() []Key {
	all := make([]Key, 0, k.Len())
	for key := range k.keys.each() {
		all = append(all, key)
	}
	return all
}
