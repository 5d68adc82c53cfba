package sinks

// A recent is a map of bounded size: it forgets the key that came first when a
// new one doesn't fit. Not safe for concurrent use.
type recent[K comparable, V any] struct {
	values map[K]V
	order  []K // a ring once it is full
	next   int // the oldest, when it is full
	size   int
}

func newRecent[K comparable, V any](size int) *recent[K, V] {
	return &recent[K, V]{values: map[K]V{}, size: size}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	v, ok := r.values[key]
	return v, ok
}

func (r *recent[K, V]) set(key K, value V) {
	if _, ok := r.values[key]; !ok {
		switch {
		case len(r.order) < r.size:
			r.order = append(r.order, key)
		default:
			delete(r.values, r.order[r.next])
			r.order[r.next] = key
			r.next = (r.next + 1) % r.size
		}
	}
	r.values[key] = value
}
