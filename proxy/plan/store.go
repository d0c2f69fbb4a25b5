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
func (s *Store) All() iter.Seq2[Key, Value] { return s.of(0) }

// OfKind goes over those of a kind.
func (s *Store) OfKind(kind Kind) iter.Seq2[Key, Value] { return s.of(kind) }

func (s *Store) of(kind Kind) iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		for key, packed := range s.objects.each(kind) {
			if !yield(key, s.values.value(packed)) {
				return
			}
		}
	}
}
